//! perfdhcp's letters that mean nothing here: each is refused by name, with what to use instead.

use clap::{Arg, Command};

/// Letter, and what to do instead.
pub const REFUSED: [(&str, &str); 21] = [
    ("1", "every reply's own server identifier is used"),
    ("6", "only DHCPv4 is generated"),
    ("a", "the plan alone decides when an exchange starts: give -r"),
    ("A", "a server as argument puts clients behind a relay, -l FIRST-LAST behind many"),
    ("c", "rapid commit is DHCPv6's"),
    ("C", "--json gives lines for machines"),
    ("e", "addresses are all that DHCPv4 leases"),
    ("E", "secs counts by itself"),
    ("g", "--senders says how many threads"),
    ("I", "messages are not templates; -o and --options-file add options"),
    ("J", "give the servers as arguments"),
    ("M", "-b gives the first hardware address, the others count up"),
    ("O", "-b gives the first hardware address, the others count up"),
    ("P", "--scenario avalanche starts everything at once"),
    ("S", "messages are not templates; -o and --options-file add options"),
    ("T", "messages are not templates; -o and --options-file add options"),
    ("w", "--event runs a command"),
    ("W", "answers are waited for as long as -d says"),
    ("X", "messages are not templates; -o and --options-file add options"),
    ("y", "secs counts by itself"),
    ("Y", "secs counts by itself"),
];

/// `command` with those letters, hidden, each of which is an error.
pub fn add_to(command: Command) -> Command {
    REFUSED.into_iter().fold(command, |command, (letter, instead)| {
        let refuse = move |_: &str| Err::<String, _>(format!("perfdhcp's -{letter} is not here: {instead}"));
        command.arg(
            Arg::new(letter)
                .short(letter.chars().next())
                .hide(true)
                .num_args(0..=1)
                .default_missing_value("")
                .value_parser(refuse),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_letter_is_refused_by_name_with_what_to_use_instead() {
        for (letter, instead) in REFUSED {
            for arguments in [vec![format!("-{letter}")], vec![format!("-{letter}1")]] {
                let all = ["tandem-loadgen".to_owned()]
                    .into_iter()
                    .chain(arguments)
                    .chain(["192.0.2.1".to_owned()]);
                let error = Cli::read(all).unwrap_err();
                let text = error.to_string();
                assert_eq!(error.exit_code(), 2, "{text}");
                assert!(text.contains(&format!("perfdhcp's -{letter} ")) && text.contains(instead), "{text}");
            }
        }
        let error = Cli::read(["tandem-loadgen", "capacity", "-g", "multi", "192.0.2.1"]).unwrap_err();
        assert!(error.to_string().contains("--senders"), "{error}");
    }

    #[test]
    fn letters_that_mean_the_same_are_taken_as_perfdhcp_takes_them() {
        let line = "tandem-loadgen -4 -r 100 -R 50 -n 10 -p 5 -d 0.5 -D 10% -t 1 -l 127.0.0.1 -L 1067 -N 67 \
                    -b mac=00:0c:01:02:03:04 -B -f 10 -F 5 -i -o 60,4c -s 3 -u -x ae --scenario mixed 127.0.0.1";
        assert!(Cli::read(line.split_whitespace()).is_ok());
    }
}
