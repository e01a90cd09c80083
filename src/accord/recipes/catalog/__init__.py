"""Everything there is to choose by name: losses with their options, miners, and lists of all other kinds."""
