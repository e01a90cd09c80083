"""The command line: one file per command, each thin over a recipe."""
