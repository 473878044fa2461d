"""Claims of this module are being written."""

CLAIMS = ()
