//! Which names the chain reader must follow: those that attached clients list.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tunnler_protocol::Address;
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::name::Label;

/// Names, each with the number of instances that list it.
pub type ListedNames = HashMap<Label, usize>;

/// The names that each instance's newest presence lists.
#[derive(Debug, Default)]
pub struct Names {
    by_instance: Mutex<HashMap<(Address, InstanceId), Vec<Label>>>,
    listed: watch::Sender<ListedNames>,
}

impl Names {
    /// All names, and what they change to.
    pub fn subscribe(&self) -> watch::Receiver<ListedNames> {
        self.listed.subscribe()
    }

    /// An instance lists these names now.
    pub fn set(&self, client: &Address, ins: &InstanceId, labels: Vec<Label>) {
        let mut by_instance = self.by_instance.lock().unwrap_or_else(PoisonError::into_inner);
        let before = by_instance.remove(&(*client, *ins)).unwrap_or_default();
        if before != labels {
            self.listed.send_modify(|listed| {
                labels.iter().for_each(|label| *listed.entry(label.clone()).or_default() += 1);
                before.into_iter().for_each(|label| release(listed, label));
            });
        }
        if !labels.is_empty() {
            by_instance.insert((*client, *ins), labels);
        }
    }

    /// Forgets the instances that `keep` denies.
    pub fn retain(&self, keep: impl Fn(&Address, &InstanceId) -> bool) {
        let mut gone = Vec::new();
        self.by_instance.lock().unwrap_or_else(PoisonError::into_inner).retain(|(client, ins), labels| {
            let kept = keep(client, ins);
            if !kept {
                gone.append(labels);
            }
            kept
        });
        if !gone.is_empty() {
            self.listed.send_modify(|listed| gone.into_iter().for_each(|label| release(listed, label)));
        }
    }
}

fn release(listed: &mut ListedNames, label: Label) {
    if let Entry::Occupied(mut count) = listed.entry(label) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    #[test]
    fn a_name_is_listed_while_any_instance_lists_it() {
        let names = Names::default();
        let client = key(1).address();
        let set = |ins: u8, labels: &[&str]| {
            let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
            names.set(&client, &InstanceId([ins; 16]), labels);
        };
        let listed = || {
            let mut listed: Vec<_> = names.subscribe().borrow().keys().map(Label::to_string).collect();
            listed.sort();
            listed
        };
        set(1, &["one", "two"]);
        set(2, &["two", "three"]);
        assert_eq!(listed(), ["one", "three", "two"]);
        set(1, &[]);
        assert_eq!(listed(), ["three", "two"]);
        names.retain(|_, _| false);
        assert!(listed().is_empty());
    }
}
