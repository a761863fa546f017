//! High availability (pure).
pub mod view;
