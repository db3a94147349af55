"""Slicer's scene on one side, images and sessions on the other."""
