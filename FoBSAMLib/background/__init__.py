"""A worker that Qt's event loop drives: nothing here waits, and no thread is needed."""
