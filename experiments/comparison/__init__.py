"""Several runs compared: methods side by side, on one page, in the terminal, as figures and as files."""
