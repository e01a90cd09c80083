"""From a finished run to one small vector: heads chosen and scaled, maps fitted, students taught, a run written."""
