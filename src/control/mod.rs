//! To be filled: control.
