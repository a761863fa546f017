//! Options with a text form of their own: classless static routes (121) and encrypted DNS resolvers (162).
//!
//! Text in, payload out (OPT-2). Never deals with option codes beyond choosing between the two.

use super::text::{ValueError, encode_domain_name, ipv4_address, malformed, split_escaped, text_octets};

/// Payload of option `code` from its text.
///
/// # Errors
/// When the text is not in the option's form.
pub fn encode(code: u8, data: &str) -> Result<Vec<u8>, ValueError> {
    match code {
        121 => classless_routes(data),
        162 => resolvers(data),
        _ => Err(malformed(data, "given as hexadecimal digits, because the option has no text form")),
    }
}

/// `net/len - router, net/len - router`: each as length, significant octets of the net, router (RFC 3442).
fn classless_routes(data: &str) -> Result<Vec<u8>, ValueError> {
    const EXPECTED: &str = "a route such as 10.0.0.0/8 - 192.0.2.1";
    let routes = split_escaped(data, ',');
    if routes.is_empty() {
        return Err(ValueError::Missing);
    }
    let mut octets = Vec::new();
    for route in &routes {
        let (net, router) = route.split_once('-').ok_or_else(|| malformed(route, EXPECTED))?;
        let (address, len) = net.trim().split_once('/').ok_or_else(|| malformed(route, EXPECTED))?;
        let address = ipv4_address(address.trim())?;
        let len: u8 =
            len.trim().parse().ok().filter(|len| *len <= 32).ok_or_else(|| malformed(route, EXPECTED))?;
        let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        let masked = (u32::from(address) & mask).to_be_bytes();
        octets.push(len);
        octets.extend(&masked[..usize::from(len).div_ceil(8)]);
        octets.extend(ipv4_address(router.trim())?.octets());
    }
    Ok(octets)
}

/// `priority, name[, address address[, key=value key=value]]`, several separated by `|` (RFC 9463 section 5.1).
fn resolvers(data: &str) -> Result<Vec<u8>, ValueError> {
    let instances = split_escaped(data, '|');
    if instances.is_empty() {
        return Err(ValueError::Missing);
    }
    let mut octets = Vec::new();
    for instance in &instances {
        let body = resolver(instance)?;
        let len =
            u16::try_from(body.len()).map_err(|_| malformed(instance, "a resolver of up to 65535 octets"))?;
        octets.extend(len.to_be_bytes());
        octets.extend(body);
    }
    Ok(octets)
}

fn resolver(instance: &str) -> Result<Vec<u8>, ValueError> {
    const EXPECTED: &str = "a resolver such as 1, resolver.example., 192.0.2.1, alpn=dot";
    let fields = split_escaped(instance, ',');
    let (priority, name, addresses, parameters) = match fields.as_slice() {
        [priority, name] => (priority, name, None, None),
        [priority, name, addresses] => (priority, name, Some(addresses), None),
        [priority, name, addresses, parameters] => (priority, name, Some(addresses), Some(parameters)),
        _ => return Err(malformed(instance, EXPECTED)),
    };
    let priority: u16 = priority.parse().map_err(|_| malformed(priority, "a priority, 0..65535"))?;
    let mut octets = priority.to_be_bytes().to_vec();
    let mut labels = Vec::new();
    encode_domain_name(name, &mut labels)?;
    octets
        .push(u8::try_from(labels.len()).map_err(|_| malformed(name, "a domain name of up to 255 octets"))?);
    octets.extend(labels);
    let Some(addresses) = addresses else {
        return Ok(octets);
    };
    let addresses = addresses.split_ascii_whitespace().map(ipv4_address).collect::<Result<Vec<_>, _>>()?;
    let len =
        u8::try_from(addresses.len() * 4).map_err(|_| malformed(instance, "given up to 63 addresses"))?;
    octets.push(len);
    octets.extend(addresses.iter().flat_map(|address| address.octets()));
    if let Some(parameters) = parameters {
        octets.extend(service_parameters(parameters)?);
    }
    Ok(octets)
}

/// Service parameters in ascending key (RFC 9460 section 2.2).
fn service_parameters(text: &str) -> Result<Vec<u8>, ValueError> {
    let mut parameters: Vec<(u16, Vec<u8>)> = Vec::new();
    for parameter in text.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (key, value) = service_parameter(name, value)?;
        match parameters.binary_search_by_key(&key, |(known, _)| *known) {
            Ok(_) => return Err(malformed(parameter, "given once: the key is repeated")),
            Err(place) => parameters.insert(place, (key, value)),
        }
    }
    let mut octets = Vec::new();
    for (key, value) in parameters {
        let len =
            u16::try_from(value.len()).map_err(|_| malformed(text, "given values of up to 65535 octets"))?;
        octets.extend(key.to_be_bytes());
        octets.extend(len.to_be_bytes());
        octets.extend(value);
    }
    Ok(octets)
}

fn service_parameter(name: &str, value: &str) -> Result<(u16, Vec<u8>), ValueError> {
    const EXPECTED: &str = "one of alpn, no-default-alpn, port, dohpath, keyNNNNN";
    Ok(match name {
        "alpn" => {
            let mut octets = Vec::new();
            for protocol in value.split(',') {
                let protocol = text_octets(protocol);
                let len = u8::try_from(protocol.len()).ok().filter(|len| *len > 0);
                octets.push(len.ok_or_else(|| malformed(value, "a list of protocols of 1 to 255 octets"))?);
                octets.extend(protocol);
            }
            (1, octets)
        }
        "no-default-alpn" if value.is_empty() => (2, Vec::new()),
        "port" => {
            let port: u16 = value.parse().map_err(|_| malformed(value, "a port, 0..65535"))?;
            (3, port.to_be_bytes().to_vec())
        }
        "dohpath" => (7, text_octets(value)),
        _ => {
            let key = name.strip_prefix("key").and_then(|digits| digits.parse().ok());
            (key.ok_or_else(|| malformed(name, EXPECTED))?, text_octets(value))
        }
    })
}
