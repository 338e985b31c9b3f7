//! Why a driver does not take the program: the kernel answers a number, and says the rest only to a log that nobody reads.

use anyhow::anyhow;
use aya::programs::ProgramError;

use crate::{
    netlink::{
        dump::dump_links,
        ethtool::Ethtool,
        netdev::{self, XdpFeatures},
    },
    source::event::Ifindex,
};

/// The largest MTU that drivers take with a program in one buffer, as on Linux 6.1 with pages of 4 KiB; and whether they gave frames in
/// several before the kernel told which do (6.3).
const ONE_BUFFER: [(&str, u32, bool); 6] = [
    ("i40e", 3046, false),
    ("ice", 3046, false),
    ("ixgbe", 3050, false),
    ("mlx5_core", 3498, true),
    ("igc", 1500, false),
    ("veth", 3506, true),
];

/// The largest MTU of which a driver's frames are in one buffer, where that is known.
pub fn one_buffer(driver: &str) -> Option<u32> {
    let mut known = ONE_BUFFER.iter();
    known.find(|(name, ..)| *name == driver).map(|(_, mtu, _)| *mtu)
}

/// The largest MTU that a driver takes with the program, which reads frames in several buffers; `None` where no such is known. `told` is
/// what the kernel says of the driver.
pub fn largest_mtu(driver: &str, told: Option<XdpFeatures>) -> Option<u32> {
    let (_, mtu, early) = ONE_BUFFER.iter().find(|(name, ..)| *name == driver)?;
    let several = told.map_or(*early, XdpFeatures::fragments);
    (!several).then_some(*mtu)
}

/// What there is to know of an interface that was refused.
#[derive(Clone, Debug, Default)]
struct Facts {
    driver: String,
    mtu: Option<u32>,
    told: Option<XdpFeatures>,
}

impl Facts {
    fn of(ifindex: Ifindex) -> Facts {
        let links = dump_links().unwrap_or_default();
        let told = netdev::xdp_features(&[ifindex]).unwrap_or_default();
        let driver = Ethtool::of(ifindex).and_then(|device| device.driver());
        Facts {
            driver: driver.map(|driver| driver.name).unwrap_or_default(),
            mtu: links
                .iter()
                .find(|link| link.ifindex == ifindex)
                .map(|link| link.mtu),
            told: told.first().map(|(_, features)| *features),
        }
    }
}

/// The sentence for an interface to which the program cannot be attached.
pub fn attach(ifindex: Ifindex, ifname: &str, generic: bool, why: ProgramError) -> anyhow::Error {
    let errno = match &why {
        ProgramError::SyscallError(inner) => inner.io_error.raw_os_error(),
        _ => None,
    };
    let sentence = sentence(ifname, generic, errno, || Facts::of(ifindex));
    anyhow!(why).context(sentence)
}

fn sentence(ifname: &str, generic: bool, errno: Option<i32>, facts: impl FnOnce() -> Facts) -> String {
    match errno {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::E2BIG) if !generic => {
            set_up(ifname, errno == Some(libc::EOPNOTSUPP), &facts())
        }
        Some(libc::EBUSY | libc::EEXIST) => format!(
            "{ifname}: another XDP program is attached. `ip link show {ifname}` names it, `ip link set {ifname} xdp off` \
             removes it"
        ),
        Some(libc::EPERM) => {
            format!("{ifname}: permission denied: run as root, or with CAP_NET_ADMIN and CAP_BPF")
        }
        Some(libc::ENODEV) => format!("{ifname}: the interface is gone"),
        _ => format!("{ifname}: the XDP program cannot be attached"),
    }
}

/// Of a driver that does not take it now, or never does. Some say of an MTU, too, that it is not supported (igc, mvneta).
fn set_up(ifname: &str, unsupported: bool, facts: &Facts) -> String {
    let Facts { driver, mtu, told } = facts;
    let mtu = mtu.unwrap_or(0);
    if let Some(most) = largest_mtu(driver, *told)
        && mtu > most
    {
        return format!(
            "{ifname}: the driver {driver} takes an MTU of up to {most} with XDP, and it is {mtu}: `ip link set dev {ifname} mtu {most}`, and the \
             same at all who share the link; or take it out of the configuration (the kernel goes on serving it)"
        );
    }
    let native = told.map_or(!unsupported, XdpFeatures::native);
    if !native {
        return format!(
            "{ifname}: its driver has no native XDP. Take it out of the configuration (the kernel goes on serving it), \
             or, knowing that it will be slow, set xdp = \"generic\" for it"
        );
    }
    let several = match told {
        Some(told) if !told.fragments() => ", which gives a program no frames in several buffers,",
        _ => "",
    };
    let jumbo = if mtu > 1500 {
        format!(
            "an MTU of {mtu}, which may be more than it takes with XDP (`ip link set dev {ifname} mtu 1500` shows), or "
        )
    } else {
        String::new()
    };
    format!(
        "{ifname}: the driver {driver}{several} refuses XDP as the interface is set up now. Usual causes: {jumbo}large receive offload \
         (`ethtool -K {ifname} lro off rx-gro-hw off`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASIC: u64 = 0b111;
    const SEVERAL: u64 = BASIC | 32;

    fn said(errno: i32, driver: &str, mtu: u32, told: Option<u64>) -> String {
        sentence("eth0", false, Some(errno), || Facts {
            driver: driver.into(),
            mtu: Some(mtu),
            told: told.map(XdpFeatures::from_bits),
        })
    }

    #[test]
    fn an_mtu_above_the_limit_is_refused_with_the_numbers() {
        for (errno, driver, told, most) in [
            (libc::EINVAL, "ixgbe", Some(BASIC), 3050),
            (libc::EINVAL, "ixgbe", None, 3050),
            (libc::EOPNOTSUPP, "igc", Some(BASIC), 1500),
            (libc::EINVAL, "i40e", None, 3046),
        ] {
            let text = said(errno, driver, 9000, told);
            assert!(
                text.contains(&format!(
                    "the driver {driver} takes an MTU of up to {most} with XDP, and it is 9000"
                )),
                "{text}"
            );
            assert!(
                text.contains(&format!("`ip link set dev eth0 mtu {most}`")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_limit_that_is_not_known_is_not_said() {
        for (driver, told) in [("ice", Some(SEVERAL)), ("mlx5_core", None), ("new", Some(BASIC))] {
            let text = said(libc::EINVAL, driver, 9000, told);
            assert!(
                text.contains("an MTU of 9000") && text.contains("mtu 1500"),
                "{text}"
            );
            assert!(!text.contains("of up to"), "{text}");
            assert_eq!(
                text.contains("no frames in several buffers"),
                told == Some(BASIC),
                "{text}"
            );
        }
        let text = said(libc::EINVAL, "ixgbe", 1500, Some(BASIC));
        assert!(text.contains("lro off") && !text.contains("MTU"), "{text}");
    }

    #[test]
    fn no_native_xdp_is_said_of_drivers_that_have_none() {
        for told in [None, Some(0)] {
            let text = said(libc::EOPNOTSUPP, "bridge", 1500, told);
            assert!(text.contains("no native XDP"), "{text}");
        }
        let text = said(libc::EOPNOTSUPP, "new", 9000, Some(BASIC));
        assert!(text.contains("an MTU of 9000"), "{text}");
        let generic = sentence("eth0", true, Some(libc::EOPNOTSUPP), Facts::default);
        assert!(generic.contains("cannot be attached"), "{generic}");
    }
}
