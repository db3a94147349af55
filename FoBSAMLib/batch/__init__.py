"""Many images, one after the other or several at a time, here or on a Ray cluster."""
