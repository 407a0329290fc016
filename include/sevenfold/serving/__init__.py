"""One candidate served over HTTP: admission, protocol, predictions, and the log of what was answered."""
