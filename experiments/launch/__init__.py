"""Many runs from one file: expanded, launched on what there is, watched over, gone on with after any kind of end."""
