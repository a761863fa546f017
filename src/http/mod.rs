//! To be filled: http.
