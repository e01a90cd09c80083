"""Arms × seeds × data sets as one resumable job: what is asked, planned, worked off, and compared."""
