//! The contracts' error codes in words that say what to do. The codes are fixed for ever (contracts/*/src/error.rs);
//! a test of the workspace compares the two.

/// What a contract refused, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContractError {
    /// The code, as in `Error(Contract, #code)`.
    pub code: u32,
}

impl std::fmt::Display for ContractError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match words(self.code) {
            Some(words) => write!(f, "{words} (contract error {})", self.code),
            None => {
                write!(f, "the contract refused with error {}, which this program does not know", self.code)
            }
        }
    }
}

impl std::error::Error for ContractError {}

/// All codes with their words, in order.
pub const WORDS: &[(u32, &str)] = &[
    (10, "nothing was announced; announce it first"),
    (11, "the seven days of notice are not over; try again when they are"),
    (100, "no relay is registered under this key; register it first"),
    (101, "a relay is already registered under this key; use `update` instead"),
    (102, "a relay key must be an account address (G…)"),
    (103, "the stake is below the least stake; see the registry's configuration"),
    (104, "the operator has as many relays as one operator may have"),
    (105, "the relay is being unbonded; all that is left is to withdraw the stake"),
    (106, "the relay is not deregistered; deregister it first"),
    (107, "the stake is still locked; try again when unbonding is over"),
    (108, "the relay is already delisted"),
    (109, "the relay is not delisted"),
    (110, "a port must be between 1 and 65535"),
    (111, "a relay needs an IPv4 or IPv6 address that is not unspecified"),
    (112, "the host is not a DNS name in lower case, or is too long"),
    (113, "the region must be 1 to 16 of a–z, 0–9 and hyphen"),
    (114, "the capacity must be between 1 and 1,000,000"),
    (115, "the ACME issuer is not a domain that can stand in a CAA record"),
    (116, "the ACME account is not an https URI that can stand in a CAA record"),
    (117, "the terms must be an https URL, not too long"),
    (118, "a value of the registry's configuration is outside its range"),
    (119, "the registry's token was fixed when it was deployed"),
    (120, "the page starts beyond the end"),
    (121, "a page has 1 to 20 entries"),
    (122, "the reason must be 1 to 32 printable ASCII characters"),
    (200, "nobody ever registered this name"),
    (201, "the name is taken; choose another"),
    (202, "the name has expired; renew it first"),
    (203, "the name has lapsed; register it anew"),
    (204, "the name is suspended by the zone's admin"),
    (205, "the name is not suspended"),
    (206, "the name points to no client key; set its target"),
    (207, "targets and allowed relays must be account addresses (G…)"),
    (208, "the owner holds as many names as one owner may hold; release one first"),
    (209, "a name can be paid for 1 to 5 years, and never beyond five years from now"),
    (210, "the name already belongs to this owner"),
    (211, "the name does not point to this key; set its target first"),
    (212, "at most 8 allowed relays, each of them once"),
    (213, "too short: a name has at least 3 characters"),
    (214, "too long: a name has at most 63 characters"),
    (215, "a name has only a–z, 0–9 and hyphen"),
    (216, "a name has no leading, trailing or doubled hyphen"),
    (217, "a name cannot have the shape of an account address"),
    (218, "the name is reserved by the zone; choose another"),
    (219, "the name is not reserved"),
    (220, "no commitment was made for this name, target and salt; commit first"),
    (221, "the commitment is too young; wait 12 ledgers (about a minute)"),
    (222, "the commitment is too old; commit again"),
    (223, "this zone asks for a commitment before registration; commit first and pass its salt"),
    (224, "not a domain name in lower case outside the zone, or longer than 96 characters"),
    (225, "the domain is already mapped to this name"),
    (226, "the domain is not mapped to this name"),
    (227, "a name maps at most 4 domains; unmap one first"),
    (228, "a value of the namespace's configuration is outside its range"),
    (229, "the namespace's token was fixed when it was deployed"),
    (230, "the page starts beyond the end"),
    (231, "a page has 1 to 20 entries"),
    (232, "the reason must be 1 to 32 printable ASCII characters"),
    (233, "the amount must be more than nothing"),
    (1000, "the contract is paused by its admin; try again later"),
    (1001, "the contract is not paused"),
];

fn words(code: u32) -> Option<&'static str> {
    let index = WORDS.binary_search_by_key(&code, |(code, _)| *code).ok()?;
    Some(WORDS[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes as the contracts define them: `Name = 123,` in an enum of errors.
    fn codes(source: &str) -> impl Iterator<Item = u32> {
        let code = |line: &str| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok();
        source.lines().filter_map(code)
    }

    #[test]
    fn every_code_of_the_contracts_has_words() {
        let sources = [
            include_str!("../../../contracts/stewardship/src/error.rs"),
            include_str!("../../../contracts/tunnel-registry/src/error.rs"),
            include_str!("../../../contracts/tunnel-namespace/src/error.rs"),
        ];
        // OpenZeppelin's two come from the pause.
        let defined: Vec<u32> = sources.into_iter().flat_map(codes).chain([1000, 1001]).collect();
        let known: Vec<u32> = WORDS.iter().map(|(code, _)| *code).collect();
        assert!(defined.len() > 50, "the sources are no longer read");
        assert_eq!(known, defined);
        for (code, words) in WORDS {
            assert!(ContractError { code: *code }.to_string().starts_with(words));
        }
    }
}
