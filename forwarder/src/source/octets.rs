//! Octets for people: hexadecimal digits, as many as a log line bears.

/// All of them.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The first of them, and how many there are beyond.
#[must_use]
pub fn shown(octets: &[u8], most: usize) -> String {
    match octets.split_at_checked(most) {
        _ if octets.is_empty() => "no octets".to_string(),
        Some((first, rest)) if !rest.is_empty() => {
            format!("octets {} and {} more", hex(first), rest.len())
        }
        _ => format!("octets {}", hex(octets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_the_first_octets_and_the_number_of_the_others() {
        assert_eq!(shown(&[], 4), "no octets");
        assert_eq!(shown(&[0, 0xab], 4), "octets 00ab");
        assert_eq!(shown(&[1, 2, 3, 4], 4), "octets 01020304");
        assert_eq!(shown(&[1, 2, 3, 4, 5, 6], 4), "octets 01020304 and 2 more");
    }
}
