# Packages are the real one's business.
