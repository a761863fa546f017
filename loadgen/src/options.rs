//! Custom options: `code,hex` as perfdhcp's `-o`, and files of them.

/// Codes that the generator writes itself.
const OWN: [u8; 5] = [0, 50, 53, 54, 255];

/// Reads `code,hex`.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(text: &str) -> Result<(u8, Vec<u8>), String> {
    let (code, value) = text.split_once(',').ok_or_else(|| format!("{text:?} is not CODE,HEX"))?;
    Ok((read_code(code)?, read_hex(value)?))
}

/// Reads a file of options: a line each, a code and then hexadecimal octets or a text in quotes; `#` begins a
/// comment.
///
/// # Errors
/// What is wrong in which line, for people.
pub fn parse_file(text: &str) -> Result<Vec<(u8, Vec<u8>)>, String> {
    let mut options = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |error: String| format!("line {}: {error}", number + 1);
        let (code, value) =
            line.split_once(char::is_whitespace).ok_or_else(|| at(format!("{line:?} has no value")))?;
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let payload = match quoted {
            Some(text) => text.as_bytes().to_vec(),
            None => read_hex(value).map_err(at)?,
        };
        options.push((read_code(code).map_err(at)?, payload));
    }
    Ok(options)
}

fn read_code(text: &str) -> Result<u8, String> {
    let code: u8 = text.trim().parse().map_err(|_| format!("{text:?} is not an option code (1 to 254)"))?;
    if OWN.contains(&code) {
        Err(format!("option {code} is written by the generator itself"))
    } else {
        Ok(code)
    }
}

fn read_hex(text: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("{text:?} is not an even number of hexadecimal digits");
    let digits: Vec<u32> = text
        .chars()
        .filter(|digit| !digit.is_whitespace() && *digit != ':')
        .map(|digit| digit.to_digit(16).ok_or_else(bad))
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * 255 {
        return Err(bad());
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_spellings() {
        assert_eq!(parse("60,4c6f6164"), Ok((60, b"Load".to_vec())));
        let file = "# vendor\n60 \"Load\"\n\n55  01 03:06\n";
        assert_eq!(parse_file(file), Ok(vec![(60, b"Load".to_vec()), (55, vec![1, 3, 6])]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in
            [("60", "CODE,HEX"), ("53,01", "53"), ("300,01", "300"), ("60,abc", "abc"), ("x,00", "x")]
        {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
        assert!(parse_file("60 \"a\"\n61 zz").unwrap_err().starts_with("line 2"));
        assert!(parse_file("60").unwrap_err().starts_with("line 1"));
    }
}
