//! To be filled: dhcp4.
