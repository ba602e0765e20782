//! Addresses as people type them.

use certs::Host;

use crate::init::REPOSITORY_PORT;

/// `host`, `1.2.3.4`, `[v6]`.
pub(crate) fn host(text: &str) -> Result<Host, certs::Error> {
    text.trim_start_matches('[').trim_end_matches(']').parse()
}

/// `host`, `host:port`, `[v6]:port`.
pub(crate) fn host_port(text: &str) -> Result<(Host, u16), String> {
    let plain = |text: &str| host(text).map_err(|error| error.to_string());
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok((Host::Address(address), REPOSITORY_PORT));
    }
    match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            let port: u16 = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
            Ok((plain(name)?, port))
        }
        _ => Ok((plain(text)?, REPOSITORY_PORT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_with_and_without_port() {
        assert_eq!(host_port("repo.plant.lan").unwrap().1, 7100);
        assert_eq!(host_port("repo.plant.lan:80").unwrap().1, 80);
        assert_eq!(
            host_port("[::1]:81").unwrap(),
            (Host::Address("::1".parse().unwrap()), 81)
        );
        assert_eq!(
            host_port("::1").unwrap(),
            (Host::Address("::1".parse().unwrap()), 7100)
        );
        assert!(host_port("host:port").is_err());
        assert!(host_port("a b").is_err());
    }
}
