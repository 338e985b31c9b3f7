//! Links that are made of others, and what those do to frames: VLANs, bonds and their members, macvlans.

use super::event::Ifindex;

/// What kind of link it is, as far as frames are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Frames leave as they are, or by rules that only the kernel knows (tunnels, bridges).
    #[default]
    Plain,
    /// With a tag, by the link below.
    Vlan(Vlan),
    /// By a member.
    Bond(Bond),
    /// By the link below, with a MAC of its own.
    Macvlan(MacvlanMode),
}

/// A VLAN device (`vlan_fill_info`, net/8021q/vlan_netlink.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// `IFLA_VLAN_ID`.
    pub id: u16,
    /// A service tag, 802.1ad (0x88a8 in `IFLA_VLAN_PROTOCOL`), else 802.1Q.
    pub service: bool,
    /// It maps priorities of packets and tags to each other (`IFLA_VLAN_EGRESS_QOS`, `IFLA_VLAN_INGRESS_QOS`).
    pub maps_priority: bool,
}

/// A bond (`bond_fill_info`, drivers/net/bonding/bond_netlink.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// `IFLA_BOND_MODE`.
    pub mode: BondMode,
    /// `IFLA_BOND_XMIT_HASH_POLICY`; it counts in the modes xor, 802.3ad and tlb.
    pub policy: HashPolicy,
    /// The member that sends, in the modes that have one (`IFLA_BOND_ACTIVE_SLAVE`).
    pub active: Option<Ifindex>,
    /// The aggregator whose ports send (`IFLA_BOND_AD_INFO`, 802.3ad only). Its change alone is announced by no message
    /// of the bond: what is sure is [`Member::active`], which the kernel sets in that aggregator only and announces.
    pub aggregator: Option<u16>,
}

/// `BOND_MODE_*` (include/uapi/linux/if_bonding.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondMode {
    /// Frame by frame.
    RoundRobin,
    /// One sends, the others wait.
    ActiveBackup,
    /// By a hash, over all that are up.
    Xor,
    /// By all at once.
    Broadcast,
    /// By a hash, over those LACP agreed on.
    Lacp,
    /// By load (transmit).
    Tlb,
    /// By load (transmit and receive).
    Alb,
    /// One that a later kernel has.
    Other(u8),
}

impl BondMode {
    /// As `ip -d link` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "balance-rr",
            Self::ActiveBackup => "active-backup",
            Self::Xor => "balance-xor",
            Self::Broadcast => "broadcast",
            Self::Lacp => "802.3ad",
            Self::Tlb => "balance-tlb",
            Self::Alb => "balance-alb",
            Self::Other(_) => "unknown",
        }
    }
}

impl From<u8> for BondMode {
    fn from(mode: u8) -> Self {
        match mode {
            0 => Self::RoundRobin,
            1 => Self::ActiveBackup,
            2 => Self::Xor,
            3 => Self::Broadcast,
            4 => Self::Lacp,
            5 => Self::Tlb,
            6 => Self::Alb,
            other => Self::Other(other),
        }
    }
}

/// `BOND_XMIT_POLICY_*` (include/uapi/linux/if_bonding.h): what a bond's hash is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashPolicy {
    /// MACs and the Ethernet type.
    Layer2,
    /// MACs and addresses.
    Layer23,
    /// Addresses and ports.
    Layer34,
    /// As layer2+3, inside tunnels.
    Encap23,
    /// As layer3+4, inside tunnels.
    Encap34,
    /// The VLAN and the source MAC.
    VlanSrcMac,
    /// One that a later kernel has.
    Other(u8),
}

impl HashPolicy {
    /// As `ip -d link` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Layer2 => "layer2",
            Self::Layer23 => "layer2+3",
            Self::Layer34 => "layer3+4",
            Self::Encap23 => "encap2+3",
            Self::Encap34 => "encap3+4",
            Self::VlanSrcMac => "vlan+srcmac",
            Self::Other(_) => "unknown",
        }
    }
}

impl From<u8> for HashPolicy {
    fn from(policy: u8) -> Self {
        match policy {
            0 => Self::Layer2,
            1 => Self::Layer34,
            2 => Self::Layer23,
            3 => Self::Encap23,
            4 => Self::Encap34,
            5 => Self::VlanSrcMac,
            other => Self::Other(other),
        }
    }
}

/// A member of a bond (`bond_fill_slave_info`, drivers/net/bonding/bond_netlink.c). The bond sends by those that are
/// active and up and have a carrier (`bond_slave_can_tx`, include/net/bonding.h); modes without backups leave a member
/// that is down active. The kernel announces every change of the two (`bond_lower_state_changed`,
/// NETDEV_CHANGELOWERSTATE in `rtnetlink_event`). How often it failed is left out: it only changes beside `up`, and would
/// make equal links unequal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// No backup: `IFLA_BOND_SLAVE_STATE` is BOND_STATE_ACTIVE.
    pub active: bool,
    /// The bond's monitor takes it for up: `IFLA_BOND_SLAVE_MII_STATUS` is BOND_LINK_UP.
    pub up: bool,
    /// `IFLA_BOND_SLAVE_AD_AGGREGATOR_ID` (802.3ad only); see [`Bond::aggregator`].
    pub aggregator: Option<u16>,
}

/// `MACVLAN_MODE_*` (include/uapi/linux/if_link.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Not to others of the same parent.
    Private,
    /// To those by way of a switch that sends back.
    Vepa,
    /// To those directly.
    Bridge,
    /// The only one of its parent.
    Passthru,
    /// Frames of listed source MACs only.
    Source,
    /// One that a later kernel has.
    Other(u32),
}

impl MacvlanMode {
    /// As `ip -d link` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Bridge => "bridge",
            Self::Passthru => "passthru",
            Self::Source => "source",
            Self::Other(_) => "unknown",
        }
    }
}

impl From<u32> for MacvlanMode {
    fn from(mode: u32) -> Self {
        match mode {
            1 => Self::Private,
            2 => Self::Vepa,
            4 => Self::Bridge,
            8 => Self::Passthru,
            16 => Self::Source,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_kernel_have_the_names_of_ip() {
        let modes = (0..8).map(|mode| BondMode::from(mode).name());
        let expected =
            "balance-rr active-backup balance-xor broadcast 802.3ad balance-tlb balance-alb unknown";
        assert_eq!(modes.collect::<Vec<_>>().join(" "), expected);
        let policies = (0..7).map(|policy| HashPolicy::from(policy).name());
        let expected = "layer2 layer3+4 layer2+3 encap2+3 encap3+4 vlan+srcmac unknown";
        assert_eq!(policies.collect::<Vec<_>>().join(" "), expected);
        let modes = [1, 2, 4, 8, 16, 3].map(|mode| MacvlanMode::from(mode).name());
        assert_eq!(modes.join(" "), "private vepa bridge passthru source unknown");
        assert_eq!(MacvlanMode::from(3), MacvlanMode::Other(3));
    }
}
