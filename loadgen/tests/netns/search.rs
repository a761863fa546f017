//! The search for the highest rate, relays and servers in numbers, and the page, with real programs.

use std::fs;

use loadgen::capacity::{Capacity, Verdict};

use crate::site::{GENERATOR, Kind, SERVERS, Site};

fn capacity(site: &Site, arguments: &[&str]) -> (Option<i32>, String, Capacity) {
    let (output, text) = site.run(&[&["capacity"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said, serde_json::from_str(&text).expect("a search"))
}

#[test]
fn a_search_ends_at_the_ceiling_or_says_that_the_generator_was_the_limit() {
    let site = Site::new().with_reflector();
    let arguments = ["-r", "50", "--to", "100", "-p", "0.5", "--warm-up", "0", "-R", "1000", SERVERS[0]];
    for more in [&["--isc"][..], &["--p99-max", "900", "--drops-max", "5"]] {
        let (code, said, found) = capacity(&site, &[&arguments, more].concat());
        let isc = more == ["--isc"];
        assert_eq!((found.objective.drop_s, found.objective.p99_ms_max.is_none()), (isc.then_some(1.0), isc));
        assert_eq!(found.probes.first().map(|probe| probe.rate), Some(50.0));
        // The other tests run at the same time, and a reflector loses nothing: what fails is the generator.
        assert!(found.probes.iter().all(|probe| probe.verdict != Verdict::Missed), "{said}");
        if found.rate == Some(100.0) {
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("capacity      100 exchanges/s") && said.contains("raise --to"), "{said}");
        } else {
            assert!(found.generator_limited && said.contains("the generator, not the server"), "{said}");
        }
    }
}

#[test]
fn a_search_without_a_server_ends_with_code_3_after_trying_each_rate_twice() {
    let site = Site::new();
    let arguments = ["-r", "20", "--to", "20", "-p", "0.1", "-d", "0.05", "--warm-up", "0", SERVERS[0]];
    let (code, said, found) = capacity(&site, &arguments);
    assert_eq!((code, found.rate), (Some(3), None), "{said}");
    assert!(found.probes.chunks(2).all(|pair| pair[0].rate == pair[1].rate), "{:?}", found.probes);
    // Without anybody there the kernel cannot send, which is not the server's fault; either is no success.
    assert!(found.probes.iter().all(|probe| probe.verdict != Verdict::Held));
}

#[test]
fn many_relays_are_served_each_through_its_own_address() {
    let site = Site::new().with_server(Kind::Tandem);
    for last in 10..14 {
        let address = format!("172.16.0.{last}/16");
        let out = std::process::Command::new("ip")
            .args(["-n", &site.clients, "address", "add", &address, "dev", "cli0"])
            .status()
            .expect("ip");
        assert!(out.success());
    }
    let arguments = ["-r", "100", "-p", "1", "-R", "100", "-l", "172.16.0.10-172.16.0.13", SERVERS[0]];
    let (output, summary) = site.load(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((summary.parameters.relays().len(), summary.counters.completed), (4, 100));
}

#[test]
fn senders_share_one_interface_and_the_page_shows_the_run() {
    let site = Site::new().with_server(Kind::Tandem);
    let page = site.folder.path().join("page.html");
    let arguments =
        ["-l", "cli0", "-r", "90", "-p", "1", "-R", "90", "--senders", "3", "--scenario", "renew", "--html"];
    let (output, summary) = site.load(&[&arguments[..], &[page.to_str().expect("a path")]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((summary.prepared, summary.counters.acks, summary.counters.orphans), (90, 90, 0));
    let text = fs::read_to_string(page).expect("a page");
    assert_eq!(text.matches("<svg").count(), 4);
    assert!(text.ends_with("</html>\n") && !text.contains("src="), "one file");
}

#[test]
fn a_page_of_a_search_is_refused() {
    let output = std::process::Command::new(GENERATOR)
        .args(["capacity", "-r", "1", "--html", "x", "127.0.0.1"])
        .output()
        .expect("the generator");
    assert_eq!(output.status.code(), Some(2));
}
