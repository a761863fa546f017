//! tandem-dhcp4.
fn main() {}
