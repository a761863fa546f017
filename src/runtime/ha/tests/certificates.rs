//! Sessions that are taken up again, and certificates that change while connections are open.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, Stream};

use super::*;

const HEARTBEAT: &str = r#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#;

/// A partner that takes one request on each connection, answers it and closes; it says how each handshake went.
fn partner(config: Arc<ServerConfig>) -> (SocketAddr, mpsc::Receiver<Option<HandshakeKind>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, kinds) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = Stream::new(&mut connection, &mut tcp);
            // A client that refuses us ends the connection; the next one may not.
            let _ = stream.read(&mut [0; 4096]);
            let body = b"[ { \"result\": 0 } ]";
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            let kind = connection.handshake_kind();
            connection.send_close_notify();
            let _ = connection.write_tls(&mut tcp);
            if sender.send(kind).is_err() {
                return;
            }
        }
    });
    (address, kinds)
}

/// The listening end of `files` with one version of TLS only.
fn only(files: &TlsFiles, version: &'static rustls::SupportedProtocolVersion) -> Arc<ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(&files.cert_file).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key_file).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(tls::verifier_of(files).unwrap())
        .with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

#[test]
fn sessions_are_taken_up_again_with_a_tandem_and_never_with_anybody_else() {
    use HandshakeKind::{Full, Resumed};
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let folder = tempfile::tempdir().unwrap();
        pki::create(folder.path(), &[Host::parse("one=127.0.0.1").unwrap()], 30).unwrap();
        let files = files_in(folder.path());
        let (address, kinds) = partner(only(&files, version));
        let bench = Bench::with(|ends| *ends = both_ends(&files, address));
        let exchange = |peer: u8| {
            bench.call_of(peer, Line::Shared, HEARTBEAT).unwrap();
            kinds.recv_timeout(Duration::from_secs(5)).unwrap().unwrap()
        };
        let tandem = HaView { epoch: 1, partner_batch_max: 8, ..HaView::default() };
        assert_eq!([exchange(0), exchange(0)], [Full, Full], "{version:?}: nothing is known of the partner");
        bench.publish(tandem);
        assert_eq!([exchange(0), exchange(0), exchange(0)], [Full, Resumed, Resumed], "{version:?}");
        assert_eq!([exchange(1), exchange(1)], [Full, Full], "{version:?}: a backup says nothing of itself");
        bench.publish(HaView { epoch: 2, partner_batch_max: 1, ..HaView::default() });
        assert_eq!([exchange(0), exchange(0)], [Full, Full], "{version:?}: a Kea is in its place");
        bench.publish(HaView { epoch: 3, partner_batch_max: 8, ..HaView::default() });
        bench.ends.replace(both_ends(&files, address));
        assert_eq!([exchange(0), exchange(0)], [Full, Resumed], "{version:?}: new files begin new sessions");
    }
}

/// Goal: a certificate that is no good any more does not end an open connection, and one put in its place counts for
/// the next. Method: the listener's certificate is exchanged for one of another authority, then the sender's.
#[test]
fn open_connections_outlive_their_certificates_and_new_ones_use_what_is_there() {
    let bench = Bench::new();
    let other = tempfile::tempdir().unwrap();
    pki::create(other.path(), &[Host::parse("one=127.0.0.1").unwrap()], 30).unwrap();
    let (old, new) =
        (both_ends(&bench.files, bench.address), both_ends(&files_in(other.path()), bench.address));
    let address = [10, 0, 0, 5];
    let acked = |peer: u8| {
        let created = Some(ShardReplyBody::Updated { created: true });
        assert_eq!(
            bench.update_of(peer, address, UpdateKind::Update, created),
            UpdateOutcome::Acked,
            "{peer}"
        );
    };
    acked(0);
    // The listener has changed, the sender has not: the connection that is open serves on, a new one is refused.
    bench.ends.replace(Ends { listen: new.listen, peers: old.peers });
    acked(0);
    assert_eq!(bench.update_of(1, address, UpdateKind::Update, None), UpdateOutcome::Failed);
    // Both have changed.
    bench.ends.replace(both_ends(&files_in(other.path()), bench.address));
    acked(0);
    std::thread::sleep(Duration::from_millis(1_050));
    acked(1);
}
