//! Why an address cannot be listened on, and what to do about it.

use std::io::{self, ErrorKind};

/// The kernel's refusal as a sentence for whoever wrote the address.
pub fn refusal(why: &io::Error) -> String {
    let advice = match why.kind() {
        ErrorKind::AddrInUse => {
            "another program listens there: `ss -ltnp` names it; or two lines `listen` overlap"
        }
        ErrorKind::AddrNotAvailable => {
            "no interface of this host has that address: `ip -br address` lists them"
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 take root or CAP_NET_BIND_SERVICE, and where a reload asks for the first one, a restart"
        }
        _ => return why.to_string(),
    };
    format!("{why}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_can_do_stands_behind_what_the_kernel_says() {
        let text = refusal(&io::Error::from_raw_os_error(98));
        assert!(
            text.starts_with("Address already in use") && text.contains("ss -ltnp"),
            "{text}"
        );
        let text = refusal(&io::Error::from_raw_os_error(99));
        assert!(
            text.contains("no interface of this host has that address"),
            "{text}"
        );
        assert_eq!(refusal(&io::Error::other("odd")), "odd");
    }
}
