//! An optional bound on how many names may get their first certificates in a week, for a zone whose CA counts them
//! together. Computed from the chain alone, so that every server of the zone says the same.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use tunnler_protocol::directory::Directory;
use tunnler_protocol::name::Label;
use tunnler_protocol::time::UnixSeconds;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// How many names are admitted to certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// All, at once.
    Open,
    /// At most so many in any seven days, in the order of their registration.
    PerWeek(NonZeroU32),
}

impl Gate {
    /// From when on each name may have certificates; names that never had to wait are left out.
    pub(super) fn waiting(self, directory: &Directory) -> HashMap<Label, UnixSeconds> {
        let Self::PerWeek(most) = self else { return HashMap::new() };
        let mut names: Vec<_> = directory.names.values().collect();
        // Serials settle the order within a ledger; the label settles what cannot be.
        names.sort_unstable_by_key(|name| (name.registered_at, name.serial, &name.label));
        let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
        let mut latest: VecDeque<UnixSeconds> = VecDeque::new();
        let mut waiting = HashMap::new();
        for name in names {
            let next = if latest.len() < most { None } else { latest.pop_front() };
            let admitted =
                next.map_or(name.registered_at, |oldest| name.registered_at.max(oldest.plus(WEEK)));
            latest.push_back(admitted);
            if admitted > name.registered_at {
                waiting.insert(name.label.clone(), admitted);
            }
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{directory, name};

    const DAY: u64 = 86_400;

    /// Names registered on these days, with when each is admitted, in days.
    fn admitted(days: &[u64], gate: Gate) -> Vec<u64> {
        let label = |i: usize| format!("name{i:03}");
        let records = days.iter().enumerate().map(|(i, day)| {
            let mut record = name(&label(i), 101);
            (record.registered_at, record.serial) = (UnixSeconds(day * DAY), i as u64);
            record
        });
        let waiting = gate.waiting(&directory([], records));
        let day = |i: usize| waiting.get(&label(i).parse().unwrap()).map_or(days[i], |at| at.0 / DAY);
        (0..days.len()).map(day).collect()
    }

    #[test]
    fn no_seven_days_admit_more_and_nobody_is_overtaken() {
        let two = Gate::PerWeek(NonZeroU32::new(2).unwrap());
        assert_eq!(admitted(&[0, 0, 0, 0, 0], two), [0, 0, 7, 7, 14]);
        assert_eq!(admitted(&[0, 3, 4, 20, 20, 21], two), [0, 3, 7, 20, 20, 27]);
        assert_eq!(admitted(&[0, 0, 0, 0], Gate::Open), [0; 4]);
        let rush: Vec<u64> = (0..200).map(|i| i / 10).collect();
        let admitted = admitted(&rush, two);
        assert!(admitted.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(admitted.windows(3).all(|three| three[2] - three[0] >= 7));
    }
}
