//! What is made of a report once it is measured: pages beside it, and values in a configuration.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::recommend::{Choice, advise};
use crate::render::{html, markdown, perf};
use crate::report::{Durability, Report};
use crate::write::{self, Facts, Settings};

/// Writes report.md and report.html into `folder`.
///
/// # Errors
/// When one cannot be drawn or written.
pub fn write_pages(report: &Report, folder: &Path) -> Result<()> {
    for (name, text) in [("report.md", markdown::render(report)), ("report.html", html::render(report)?)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// Renews the numbers between the markers of the document in `file`, see [`perf`].
///
/// # Errors
/// When `report` is not complete, or the file has no such markers.
pub fn write_numbers(report: &Report, file: &Path) -> Result<()> {
    ensure!(report.is_complete(), "the report is not finished, so its numbers go nowhere");
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let renewed = perf::renewed(&text, report).with_context(|| format!("renewing {}", file.display()))?;
    fs::write(file, renewed).with_context(|| format!("writing {}", file.display()))?;
    eprintln!("renewed the numbers of {}", file.display());
    Ok(())
}

/// Puts the recommendation of `report` into the configuration in `file`, and says what was done.
///
/// A value that the report does not bear, because it was not measured or every measurement was disturbed,
/// stays as it is.
///
/// # Errors
/// When the report bears nothing for this file, or the file cannot be edited. Then nothing is written.
pub fn write_values(report: &Report, file: &Path) -> Result<String> {
    let facts = write::facts(file)?;
    let (settings, remarks) = values(report, facts)?;
    let written = write::write(file, &settings)?;
    let remarks = remarks.iter().map(|remark| format!("  {remark}\n")).collect::<String>();
    Ok(format!("{written}{remarks}"))
}

fn values(report: &Report, facts: Facts) -> Result<(Settings, Vec<String>)> {
    let advice = advise(report, Some(facts.durability));
    let name = facts.durability.name();
    let sound = |choice: &&Choice<'_>| choice.doubt.is_none();
    let pair = advice.pair.as_ref().filter(sound).filter(|_| facts.pair);
    let server = advice.server.as_ref().filter(sound);
    let Some(chosen) = pair.or(server) else {
        match advice.server.as_ref().or(advice.pair.as_ref()).and_then(|choice| choice.doubt) {
            Some(doubt) => bail!("nothing is written: {doubt}"),
            None => bail!(
                "nothing is written: an ACK of this configuration waits for what \"durability\": \"{name}\" says, and \
                 no such server was measured, or none held any rate"
            ),
        }
    };
    let mut remarks = vec![format!("Why: {}", chosen.reasons.join("\n       "))];
    if facts.pair && pair.is_none() {
        let why = match advice.pair.as_ref().and_then(|choice| choice.doubt) {
            Some(doubt) => format!("of pairs {doubt}"),
            None => "no pair was measured".to_owned(),
        };
        remarks.push(format!(
            "http-listener-threads and http-client-threads stay as they are: {why}; thread-pool-size and \
             packet-queue-size are those of one server alone"
        ));
    }
    Ok((chosen.settings(), remarks))
}

impl From<config::tandem::Durability> for Durability {
    fn from(durability: config::tandem::Durability) -> Self {
        match durability {
            config::tandem::Durability::Synced => Self::Synced,
            config::tandem::Durability::Written => Self::Written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::cell::{Channel, Ha};
    use crate::report::tests::{fixed, measured};
    use crate::report::{Disturbance, Measurement, Server};

    const ALONE: Facts = Facts { durability: Durability::Synced, pair: false };
    const PAIR: Facts = Facts { pair: true, ..ALONE };

    fn pair(listeners: u16, capacity: f64) -> Measurement {
        let mut found = measured(Server::Tandem, 2, 64, capacity);
        found.cell.ha = Some(Ha { channel: Channel::Tls, listeners, senders: listeners, partner: None });
        found
    }

    #[test]
    fn a_pair_gets_the_values_of_a_pair_and_one_server_those_of_one() {
        let mut report = fixed();
        report.cells.extend([pair(1, 5_000.0), pair(2, 9_000.0)]);
        let (alone, _) = values(&report, ALONE).unwrap();
        assert_eq!((alone.threads, alone.queue, alone.listeners), (Some(1), Some(64), None));
        let (both, remarks) = values(&report, PAIR).unwrap();
        assert_eq!((both.threads, both.listeners, both.senders), (Some(2), Some(2), Some(2)));
        assert_eq!(remarks.len(), 1);
    }

    #[test]
    fn what_was_not_measured_or_disturbed_throughout_is_left_and_told() {
        let mut report = fixed();
        let (settings, remarks) = values(&report, PAIR).unwrap();
        assert_eq!((settings.threads, settings.listeners), (Some(1), None));
        assert!(remarks[1].contains("no pair was measured"), "{remarks:?}");
        report.cells.extend([pair(1, 5_000.0), pair(2, 9_000.0)]);
        for found in &mut report.cells {
            found.disturbances.retain(|_| false);
            found.disturbances.extend(found.cell.ha.map(|_| Disturbance::PairLeft));
        }
        let (settings, remarks) = values(&report, PAIR).unwrap();
        assert_eq!((settings.threads, settings.listeners), (Some(1), None));
        assert!(remarks[1].contains("of pairs every measurement was disturbed"), "{remarks:?}");
        for found in &mut report.cells {
            found.disturbances.push(Disturbance::Steal(0.5));
        }
        assert!(values(&report, ALONE).unwrap_err().to_string().contains("disturbed"));
        let written = Facts { durability: Durability::Written, pair: false };
        assert!(values(&report, written).unwrap_err().to_string().contains("\"written\""));
    }

    #[test]
    fn a_configuration_gets_the_values_and_the_reason_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kea-dhcp4.conf");
        let text =
            "// Ours.\n{ \"Dhcp4\": {\n  \"multi-threading\": { \"thread-pool-size\": 4 } // four\n} }\n";
        fs::write(&file, text).unwrap();
        let said = write_values(&fixed(), &file).unwrap();
        for part in
            ["2 values changed", "- \"thread-pool-size\": 4", "+ \"packet-queue-size\": 64", "Why: 1 thread"]
        {
            assert!(said.contains(part), "{said}");
        }
        let expected = text.replace("4 }", "1, \"packet-queue-size\": 64 }");
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    }
}
