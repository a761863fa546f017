//! The host's network interfaces with their IPv4 addresses.

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;
use std::ptr;

/// One interface as the kernel describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostInterface {
    /// Name, such as `eth0`.
    pub name: String,
    /// Kernel index.
    pub ifindex: u32,
    /// Hardware address; zeros where there is none of six octets.
    pub mac: [u8; 6],
    /// Whether frames have Ethernet headers.
    pub ethernet: bool,
    /// IFF_UP.
    pub up: bool,
    /// IFF_RUNNING.
    pub running: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// IFF_BROADCAST.
    pub broadcast: bool,
    /// IPv4 addresses in the kernel's order.
    pub addresses: Vec<Ipv4Addr>,
}

/// All interfaces in ascending index.
pub fn list() -> io::Result<Vec<HostInterface>> {
    let mut head: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: on success the kernel's list is stored in `head` and belongs to us until it is freed below.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut interfaces: Vec<HostInterface> = Vec::new();
    let mut entry = head;
    while !entry.is_null() {
        // SAFETY: `entry` is a node of the list that has not been freed yet.
        let (node, name) = unsafe { (&*entry, CStr::from_ptr((*entry).ifa_name)) };
        read_entry(node, &name.to_string_lossy(), &mut interfaces);
        entry = node.ifa_next;
    }
    // SAFETY: `head` came from getifaddrs and no reference into the list is kept.
    unsafe { libc::freeifaddrs(head) };
    interfaces.retain(|interface| interface.ifindex != 0);
    interfaces.sort_by_key(|interface| interface.ifindex);
    Ok(interfaces)
}

fn read_entry(node: &libc::ifaddrs, label: &str, interfaces: &mut Vec<HostInterface>) {
    // An address with a label of its own (`eth0:1`) belongs to the interface before the colon.
    let name = label.split(':').next().unwrap_or(label);
    let place = interfaces.iter().position(|known| known.name == name).unwrap_or_else(|| {
        interfaces.push(HostInterface {
            name: name.to_owned(),
            ifindex: 0,
            mac: [0; 6],
            ethernet: false,
            up: flag(node, libc::IFF_UP),
            running: flag(node, libc::IFF_RUNNING),
            loopback: flag(node, libc::IFF_LOOPBACK),
            broadcast: flag(node, libc::IFF_BROADCAST),
            addresses: Vec::new(),
        });
        interfaces.len() - 1
    });
    let interface = &mut interfaces[place];
    if node.ifa_addr.is_null() {
        return;
    }
    // SAFETY: the pointer is not null and every socket address begins with its family.
    match i32::from(unsafe { (*node.ifa_addr).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an AF_INET address is a sockaddr_in.
            let address = unsafe { ptr::read_unaligned(node.ifa_addr.cast::<libc::sockaddr_in>()) };
            interface.addresses.push(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)));
        }
        libc::AF_PACKET => {
            // SAFETY: an AF_PACKET address is a sockaddr_ll.
            let link = unsafe { ptr::read_unaligned(node.ifa_addr.cast::<libc::sockaddr_ll>()) };
            interface.ifindex = u32::try_from(link.sll_ifindex).unwrap_or(0);
            interface.ethernet = link.sll_hatype == libc::ARPHRD_ETHER;
            if link.sll_halen == 6 {
                interface.mac.copy_from_slice(&link.sll_addr[..6]);
            }
        }
        _ => {}
    }
}

fn flag(node: &libc::ifaddrs, flag: i32) -> bool {
    node.ifa_flags & flag.cast_unsigned() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_with_its_address_and_without_ethernet() {
        let list = list().unwrap();
        let lo = list.iter().find(|interface| interface.loopback).expect("every host has loopback");
        assert!(lo.ifindex > 0);
        assert!(lo.addresses.contains(&Ipv4Addr::LOCALHOST));
        assert!(!lo.ethernet);
    }
}
