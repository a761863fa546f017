//! How the demo goes: how long each act lasts, how fast clients come, which ports everybody has.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::Duration;

/// How much faster than the template's the pair's timers run, and than RFC 2131's the clients repeat themselves.
pub(super) const SPEED: u32 = 20;

/// The pair must be whole within this time of a start.
pub(super) const WHOLE_WITHIN: Duration = Duration::from_secs(25);
/// The standby must answer within this time of the primary's end.
pub(super) const TAKE_OVER_WITHIN: Duration = Duration::from_secs(15);
/// Every client must be served within this time of the last arrival.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// A server that is asked to stop must have ended within this time.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long the whole pair serves, before the loss and after it.
pub(super) const SERVE_WHOLE: Duration = Duration::from_secs(6);
/// How long the standby serves alone.
pub(super) const SERVE_ALONE: Duration = Duration::from_secs(5);

/// Everybody lives here.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Ports of one server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ServerPorts {
    /// DHCP (`-p`).
    pub(super) dhcp: u16,
    /// HA listener.
    pub(super) ha: u16,
    /// HTTPS control socket.
    pub(super) control: u16,
}

/// Picks ports that are free now. The relay's socket stays open: its port is what both servers answer to.
///
/// # Errors
/// What the system says.
pub(super) fn reserve_ports() -> io::Result<(UdpSocket, [ServerPorts; 2])> {
    let any = SocketAddrV4::new(ADDRESS, 0);
    let relay = UdpSocket::bind(any)?;
    let udp = [UdpSocket::bind(any)?, UdpSocket::bind(any)?];
    let tcp: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind(any)).collect::<io::Result<_>>()?;
    // All are held until all are known, so that no port comes twice.
    let mut tcp_ports = Vec::new();
    for listener in &tcp {
        tcp_ports.push(listener.local_addr()?.port());
    }
    let ports = |index: usize| -> io::Result<ServerPorts> {
        let [ha, control] = [tcp_ports[2 * index], tcp_ports[2 * index + 1]];
        Ok(ServerPorts { dhcp: udp[index].local_addr()?.port(), ha, control })
    };
    let ports = [ports(0)?, ports(1)?];
    Ok((relay, ports))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ports_are_all_different() {
        let (relay, ports) = reserve_ports().unwrap();
        let udp = [relay.local_addr().unwrap().port(), ports[0].dhcp, ports[1].dhcp];
        let tcp = ports.map(|server| [server.ha, server.control]).concat();
        assert_eq!(udp.iter().collect::<HashSet<_>>().len(), 3);
        assert_eq!(tcp.iter().collect::<HashSet<_>>().len(), 4);
    }
}
