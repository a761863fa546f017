//! To be filled: logging.
