//! Who is accepted and who is refused, over in-memory buffers, with certificates made by openssl and rcgen.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tls::{TlsFiles, client_configs, server_config, warnings};
use super::tls_session::{Session, describe};

const SERVER: &str = "192.0.2.1";

/// Certificates of one test, made in a folder of its own.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl must be installed for this test");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A self-signed CA in `NAME.pem` and `NAME.key`.
    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }

    /// A leaf in `NAME.pem` and `NAME.key`, signed by `ca`, as the given `openssl x509 -req` options make it.
    fn leaf(&self, name: &str, ca: &str, key: &str, options: &str) {
        match key {
            "rsa" => self.openssl(&format!("genrsa -out {name}.key 2048")),
            "rsa-pkcs1" => self.openssl(&format!("genrsa -traditional -out {name}.key 2048")),
            "ec-sec1" => self.openssl(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key")),
            other => panic!("unknown key kind {other}"),
        }
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -out {name}.pem {options}"
        ));
    }

    /// Version 3 extensions with a name for `SERVER`.
    fn extensions(&self) {
        std::fs::write(
            self.path("v3.ext"),
            format!("subjectAltName=IP:{SERVER}\nbasicConstraints=CA:FALSE\n"),
        )
        .unwrap();
    }

    fn files(&self, anchor: &str, name: &str) -> TlsFiles {
        TlsFiles {
            trust_anchor: self.path(anchor),
            cert_file: self.path(&format!("{name}.pem")),
            key_file: self.path(&format!("{name}.key")),
        }
    }
}

/// Drives both ends until neither has anything to say; gives what the server read or what failed where.
fn converse(client: &mut Session, server: &mut Session) -> Result<String, String> {
    client.write(b"ping").unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    let mut failure = None;
    for _ in 0..20 {
        client.take_output(&mut to_server);
        if let Err(error) = server.handle_input(&to_server, &mut at_server) {
            failure.get_or_insert(format!("server: {}", describe(&error)));
        }
        to_server.clear();
        if at_server == b"ping" && failure.is_none() && at_client.is_empty() {
            server.write(b"pong").unwrap();
            at_client.push(b'>');
        }
        server.take_output(&mut to_client);
        if let Err(error) = client.handle_input(&to_client, &mut at_client) {
            failure.get_or_insert(format!("client: {}", describe(&error)));
        }
        to_client.clear();
    }
    match failure {
        Some(failure) => Err(failure),
        None if at_client == b">pong" => Ok("both ways".into()),
        None => Err(format!("silence: {at_server:?} {at_client:?}")),
    }
}

fn connect(
    client: &TlsFiles,
    server: &TlsFiles,
    check_names: bool,
    required: bool,
) -> Result<String, String> {
    let address: IpAddr = SERVER.parse().unwrap();
    let name = check_names.then_some("server2");
    let mut client = Session::client(client_configs(client, name).unwrap().full, address).unwrap();
    let mut server = Session::server(server_config(server, required).unwrap()).unwrap();
    converse(&mut client, &mut server)
}

#[test]
fn certificates_of_the_configured_ca_are_accepted_and_all_others_refused() {
    let shop = Workshop::new();
    shop.extensions();
    shop.authority("ca");
    shop.authority("foreign");
    shop.leaf("v1", "ca", "rsa", "-days 30");
    shop.leaf("v1-pkcs1", "ca", "rsa-pkcs1", "-days 30");
    shop.leaf("v1-ec", "ca", "ec-sec1", "-days 30");
    shop.leaf("v3", "ca", "rsa", "-days 30 -extfile v3.ext");
    shop.leaf("v3-ec", "ca", "ec-sec1", "-days 30 -extfile v3.ext");
    shop.leaf("v1-sha1", "ca", "rsa", "-days 30 -sha1");
    shop.leaf("v1-foreign", "foreign", "rsa", "-days 30");
    shop.leaf("v3-foreign", "foreign", "rsa", "-days 30 -extfile v3.ext");
    shop.leaf("v1-expired", "ca", "rsa", "-days -1");
    shop.leaf("v3-expired", "ca", "rsa", "-days -1 -extfile v3.ext");
    // A forgery: the issuer's name is right, its key is not.
    std::fs::create_dir(shop.path("forged")).unwrap();
    shop.openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout forger.key -out forger.pem",
    );
    shop.leaf("v1-forged", "forger", "rsa", "-days 30");

    let ok = Ok("both ways");
    let table = [
        ("v1", "v1", ok),
        ("v1", "v3", ok),
        ("v3", "v1", ok),
        ("v3", "v3", ok),
        ("v1-pkcs1", "v1-ec", ok),
        ("v1-ec", "v1-pkcs1", ok),
        ("v3-ec", "v3-ec", ok),
        ("v1-foreign", "v1", Err("server: the peer's certificate is from an unknown CA")),
        ("v3-foreign", "v1", Err("server: the peer's certificate is from an unknown CA")),
        ("v1", "v1-foreign", Err("client: the peer's certificate is from an unknown CA")),
        ("v1", "v3-foreign", Err("client: the peer's certificate is from an unknown CA")),
        ("v1-expired", "v1", Err("server: the peer's certificate has expired")),
        ("v3-expired", "v1", Err("server: the peer's certificate has expired")),
        ("v1", "v1-expired", Err("client: the peer's certificate has expired")),
        ("v1", "v3-expired", Err("client: the peer's certificate has expired")),
        ("v1-forged", "v1", Err("server: the peer's certificate is not signed by its issuer's key")),
        ("v1", "v1-forged", Err("client: the peer's certificate is not signed by its issuer's key")),
    ];
    for (client, server, expected) in table {
        let result = connect(&shop.files("ca.pem", client), &shop.files("ca.pem", server), false, true);
        let result = result.as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!(result, expected, "client {client}, server {server}");
    }
    let weak =
        connect(&shop.files("ca.pem", "v1-sha1"), &shop.files("ca.pem", "v1"), false, true).unwrap_err();
    assert!(weak.contains("SHA-1"), "{weak}");
}

#[test]
fn an_anchor_beyond_its_dates_is_not_trusted_whatever_the_version_of_the_leaf() {
    let shop = Workshop::new();
    shop.extensions();
    for (name, days) in [("old", "-1"), ("new", "30")] {
        shop.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        std::fs::write(shop.path("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
        shop.openssl(&format!(
            "x509 -req -in {name}.csr -signkey {name}.key -days {days} -extfile ca.ext -out {name}.pem"
        ));
    }
    shop.leaf("v1", "old", "ec-sec1", "-days 30");
    shop.leaf("v3", "old", "ec-sec1", "-days 30 -extfile v3.ext");
    shop.leaf("fresh", "new", "ec-sec1", "-days 30 -extfile v3.ext");
    let both = [shop.path("old.pem"), shop.path("new.pem")].map(|path| std::fs::read(path).unwrap()).concat();
    std::fs::write(shop.path("both.pem"), both).unwrap();
    let anchor = "the peer's certificate is refused: the trust anchor has expired or is not valid yet";
    // What is trusted by the server, who comes; why it is refused.
    let rows = [
        ("old.pem", "v1", Some(anchor)),
        ("old.pem", "v3", Some(anchor)),
        ("both.pem", "v1", Some(anchor)),
        ("both.pem", "v3", Some("the peer's certificate is from an unknown CA")),
        ("both.pem", "fresh", None),
    ];
    for (trusted, client, refused) in rows {
        let refused = refused.map(|why| format!("server: {why}"));
        let result = connect(&shop.files("new.pem", client), &shop.files(trusted, "fresh"), false, true);
        assert_eq!(result.err(), refused, "{client} where {trusted} is trusted");
    }
    let result = connect(&shop.files("old.pem", "fresh"), &shop.files("new.pem", "v3"), false, true);
    assert_eq!(result.err(), Some(format!("client: {anchor}")));
}

#[test]
fn a_server_name_counts_only_with_name_checking() {
    let shop = Workshop::new();
    shop.extensions();
    shop.authority("ca");
    shop.leaf("v1", "ca", "ec-sec1", "-days 30");
    shop.leaf("named", "ca", "ec-sec1", "-days 30 -extfile v3.ext");
    std::fs::write(shop.path("v3.ext"), "subjectAltName=IP:198.51.100.9\n").unwrap();
    shop.leaf("other", "ca", "ec-sec1", "-days 30 -extfile v3.ext");
    shop.leaf("Server2", "ca", "ec-sec1", "-days 30");
    std::fs::write(shop.path("v3.ext"), "subjectAltName=DNS:server2\n").unwrap();
    shop.leaf("by-name", "ca", "ec-sec1", "-days 30 -extfile v3.ext");
    for (server, check_names, accepted) in [
        ("v1", false, true),
        ("v1", true, false),
        ("named", false, true),
        ("named", true, true),
        ("other", false, true),
        ("other", true, false),
        // The peer's own name will do, in the common name or among the alternative ones.
        ("Server2", true, true),
        ("by-name", true, true),
    ] {
        let result = connect(&shop.files("ca.pem", "v1"), &shop.files("ca.pem", server), check_names, true);
        assert_eq!(result.is_ok(), accepted, "{server}, names checked: {check_names}: {result:?}");
        if let Err(error) = result {
            assert_eq!(error, "client: the peer's certificate carries neither its address nor its name");
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let shop = Workshop::new();
    shop.authority("ca");
    shop.leaf("v1", "ca", "ec-sec1", "-days 30");
    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        use rustls::pki_types::pem::PemObject;
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(shop.path("ca.pem")).unwrap()).unwrap();
        roots
    };
    std::fs::write(shop.path("san.ext"), format!("subjectAltName=IP:{SERVER}\n")).unwrap();
    shop.leaf("v3", "ca", "ec-sec1", "-days 30 -extfile san.ext");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let bare = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let bare = std::sync::Arc::new(bare);
    for (required, expected) in [
        (true, Err("server: the peer presented no certificate".to_owned())),
        (false, Ok("both ways".to_owned())),
    ] {
        let mut client = Session::client(bare.clone(), SERVER.parse().unwrap()).unwrap();
        let files = shop.files("ca.pem", "v3");
        let mut server = Session::server(server_config(&files, required).unwrap()).unwrap();
        assert_eq!(converse(&mut client, &mut server), expected, "required: {required}");
    }
}

#[test]
fn plain_text_to_a_tls_server_is_refused() {
    let shop = Workshop::new();
    shop.authority("ca");
    shop.leaf("v1", "ca", "ec-sec1", "-days 30");
    let mut server = Session::server(server_config(&shop.files("ca.pem", "v1"), true).unwrap()).unwrap();
    let error = server.handle_input(b"POST / HTTP/1.1\r\n\r\n", &mut Vec::new()).unwrap_err();
    assert_eq!(describe(&error), "the peer does not speak TLS (plain TCP?)");
}

#[test]
fn both_protocol_versions_are_spoken_and_a_session_can_be_taken_up_again() {
    let shop = Workshop::new();
    shop.authority("ca");
    shop.leaf("v1", "ca", "rsa", "-days 30");
    let files = shop.files("ca.pem", "v1");
    let server_side = server_config(&files, true).unwrap();
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        // The client's own configuration, held to one version.
        let full = client_configs(&files, None).unwrap().full;
        let mut config = rustls::ClientConfig::builder_with_provider(full.crypto_provider().clone())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(super::tls::verifier_of(&files).unwrap())
            .with_client_cert_resolver(full.client_auth_cert_resolver.clone());
        config.enable_sni = false;
        let config = std::sync::Arc::new(config);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut client = Session::client(config.clone(), SERVER.parse().unwrap()).unwrap();
            let mut server = Session::server(server_side.clone()).unwrap();
            converse(&mut client, &mut server).unwrap();
            kinds.push(client.is_resumed());
        }
        assert_eq!(kinds, [false, true], "{versions:?}");
    }
}

/// A CA, an intermediate and a leaf of it that are good for so many seconds, in `leaf.pem` with its chain and `root.pem`.
fn chain_that_ends(shop: &Workshop, ends_s: [u64; 3]) -> TlsFiles {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let parameters = |name: &str, ends_s: u64| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = date_time_ymd(2000, 1, 1);
        let end = std::time::Duration::from_secs(now.as_secs() + ends_s);
        parameters.not_after = date_time_ymd(1970, 1, 1) + end;
        if name != "leaf" {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        parameters
    };
    let [root, middle, leaf] = [("root", ends_s[0]), ("middle", ends_s[1]), ("leaf", ends_s[2])]
        .map(|(name, ends_s)| parameters(name, ends_s));
    let [root_key, middle_key, leaf_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let anchor = root.self_signed(&root_key).unwrap();
    let root = Issuer::new(root, root_key);
    let between = middle.signed_by(&middle_key, &root).unwrap();
    let own = leaf.signed_by(&leaf_key, &Issuer::new(middle, middle_key)).unwrap();
    std::fs::write(shop.path("root.pem"), anchor.pem()).unwrap();
    std::fs::write(shop.path("leaf.pem"), own.pem() + &between.pem()).unwrap();
    std::fs::write(shop.path("leaf.key"), leaf_key.serialize_pem()).unwrap();
    shop.files("root.pem", "leaf")
}

/// Goal: neither end takes a session up again for which it would accept nobody any more. Method: one certificate of the
/// chain ends while sessions are kept; the other end is one that keeps sessions for as long as it likes.
#[test]
fn no_session_outlives_a_certificate_of_its_chain_at_either_end() {
    use rustls::client::Resumption;
    let (client_address, now) = (SERVER.parse().unwrap(), std::time::Instant::now());
    let mut pairs = Vec::new();
    for (ending, ends_s) in
        [("the CA", [2, 900, 900]), ("the intermediate", [900, 2, 900]), ("the leaf", [900, 900, 2])]
    {
        for careless in ["client", "server"] {
            let shop = Workshop::new();
            let files = chain_that_ends(&shop, ends_s);
            let mut client = client_configs(&files, None).unwrap().resuming;
            let mut server = server_config(&files, true).unwrap();
            if careless == "client" {
                let mut config = rustls::ClientConfig::clone(&client);
                config.resumption = Resumption::in_memory_sessions(8);
                client = config.into();
            } else {
                let mut config = rustls::ServerConfig::clone(&server);
                config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
                server = config.into();
            }
            pairs.push((format!("{ending} ends, the {careless} is careless"), client, server));
        }
    }
    let connect = |client: &std::sync::Arc<rustls::ClientConfig>,
                   server: &std::sync::Arc<rustls::ServerConfig>| {
        let mut client = Session::client(client.clone(), client_address).unwrap();
        let mut server = Session::server(server.clone()).unwrap();
        let result = converse(&mut client, &mut server);
        (result.is_ok(), client.is_resumed())
    };
    for (case, client, server) in &pairs {
        assert_eq!(
            [connect(client, server), connect(client, server)],
            [(true, false), (true, true)],
            "{case}"
        );
    }
    assert!(now.elapsed().as_secs() < 2, "the certificates have to be good until here");
    std::thread::sleep(std::time::Duration::from_millis(3_100).saturating_sub(now.elapsed()));
    for (case, client, server) in &pairs {
        assert_eq!(connect(client, server), (false, false), "{case}");
    }
}

#[test]
fn our_own_clients_never_take_up_an_earlier_session() {
    let shop = Workshop::new();
    shop.authority("ca");
    shop.leaf("v1", "ca", "ec-sec1", "-days 30");
    let files = shop.files("ca.pem", "v1");
    let (client_side, server_side) =
        (client_configs(&files, None).unwrap().full, server_config(&files, true).unwrap());
    for _ in 0..3 {
        let mut client = Session::client(client_side.clone(), SERVER.parse().unwrap()).unwrap();
        let mut server = Session::server(server_side.clone()).unwrap();
        converse(&mut client, &mut server).unwrap();
        assert!(!client.is_resumed());
    }
}

#[test]
fn trust_anchors_come_as_a_file_of_several_or_a_hashed_folder() {
    let shop = Workshop::new();
    shop.authority("one");
    shop.authority("two");
    shop.leaf("of-one", "one", "ec-sec1", "-days 30");
    shop.leaf("of-two", "two", "ec-sec1", "-days 30");
    let both = ["one.pem", "two.pem"].map(|name| std::fs::read(shop.path(name)).unwrap()).concat();
    std::fs::write(shop.path("both.pem"), both).unwrap();
    std::fs::create_dir(shop.path("hashed")).unwrap();
    std::fs::copy(shop.path("one.pem"), shop.path("hashed/one.pem")).unwrap();
    std::fs::copy(shop.path("two.pem"), shop.path("hashed/two.pem")).unwrap();
    shop.openssl("rehash hashed");
    for anchor in ["both.pem", "hashed"] {
        let result = connect(&shop.files(anchor, "of-one"), &shop.files(anchor, "of-two"), false, true);
        assert_eq!(result.as_deref(), Ok("both ways"), "{anchor}");
    }
    std::fs::create_dir(shop.path("empty")).unwrap();
    let error = client_configs(&shop.files("empty", "of-one"), None).unwrap_err().to_string();
    assert!(error.contains("/empty: a folder must hold files named by hash"), "{error}");
}

#[test]
fn a_chain_through_an_intermediate_is_accepted_for_both_leaf_versions() {
    let shop = Workshop::new();
    shop.authority("root");
    std::fs::write(shop.path("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    std::fs::write(shop.path("no.ext"), "basicConstraints=critical,CA:FALSE\n").unwrap();
    shop.leaf("middle", "root", "rsa", "-days 30 -extfile ca.ext");
    shop.leaf("impostor", "root", "rsa", "-days 30 -extfile no.ext");
    for (issuer, options, accepted) in [
        ("middle", "-days 30", true),
        ("middle", "-days 30 -extfile no.ext", true),
        ("impostor", "-days 30", false),
        ("impostor", "-days 30 -extfile no.ext", false),
    ] {
        shop.leaf("leaf", issuer, "ec-sec1", options);
        let chain = ["leaf.pem".to_owned(), format!("{issuer}.pem")]
            .map(|name| std::fs::read(shop.path(&name)).unwrap());
        std::fs::write(shop.path("leaf.pem"), chain.concat()).unwrap();
        let files = shop.files("root.pem", "leaf");
        let result = connect(&files, &files, false, true);
        assert_eq!(result.is_ok(), accepted, "{issuer} {options}: {result:?}");
    }
}

#[test]
fn a_bad_file_is_named_with_what_is_wrong() {
    let shop = Workshop::new();
    shop.authority("ca");
    shop.leaf("good", "ca", "ec-sec1", "-days 30");
    shop.leaf("other", "ca", "ec-sec1", "-days 30");
    shop.openssl("pkey -in good.key -aes256 -passout pass:secret -out locked.key");
    std::fs::write(shop.path("text.pem"), "hello").unwrap();
    std::fs::write(
        shop.path("broken.pem"),
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let with = |anchor: &str, cert: &str, key: &str| TlsFiles {
        trust_anchor: shop.path(anchor),
        cert_file: shop.path(cert),
        key_file: shop.path(key),
    };
    for (files, expected) in [
        (
            with("ca.pem", "good.pem", "other.key"),
            "/other.key: this private key does not belong to the certificate in",
        ),
        (with("ca.pem", "good.pem", "locked.key"), "/locked.key: the private key is encrypted"),
        (with("ca.pem", "good.pem", "absent.key"), "/absent.key: cannot be read: No such file"),
        (with("ca.pem", "good.pem", "good.pem"), "/good.pem: holds no PEM private key"),
        (with("ca.pem", "text.pem", "good.key"), "/text.pem: holds no PEM certificate"),
        (with("text.pem", "good.pem", "good.key"), "/text.pem: holds no PEM certificate"),
        (with("absent.pem", "good.pem", "good.key"), "/absent.pem: cannot be read: No such file"),
        (with("broken.pem", "good.pem", "good.key"), "/broken.pem: not an X.509 certificate"),
        (with("ca.pem", "broken.pem", "good.key"), "/broken.pem: not an X.509 certificate"),
    ] {
        let error = server_config(&files, true).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        assert!(client_configs(&files, None).is_err());
    }
}

#[test]
fn a_certificate_that_the_partner_will_refuse_is_warned_of() {
    let shop = Workshop::new();
    shop.openssl("req -x509 -newkey rsa:2048 -nodes -days 3000 -subj /CN=ca -keyout ca.key -out ca.pem");
    for (options, expected) in [
        ("-days 300", None),
        ("-days -1", Some("CN=leaf expired on ")),
        ("-days 7", Some("CN=leaf expires on ")),
    ] {
        shop.leaf("leaf", "ca", "ec-sec1", options);
        let warnings = warnings(&shop.files("ca.pem", "leaf")).unwrap();
        match expected {
            None => assert_eq!(warnings, Vec::new()),
            Some(expected) => {
                assert!(warnings.len() == 1 && warnings[0].1.contains(expected), "{warnings:?}")
            }
        }
        assert!(
            warnings
                .iter()
                .all(|(path, text)| path == path_text(&shop.path("leaf.pem")) && text.starts_with(path))
        );
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
