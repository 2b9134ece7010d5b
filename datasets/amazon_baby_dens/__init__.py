"""Amazon Baby of DENS; see README.md."""
