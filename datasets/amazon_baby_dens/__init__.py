"""Amazon Baby of DENS: its facts, description, citations and builder; see README.md."""
