"""Parts of the module's panel in Slicer; all of it needs Qt."""
