use super::*;

fn value(modified: u32, byte: u8) -> Option<Value> {
    Some(Value { modified, bytes: Arc::from([byte].as_slice()) })
}

fn agreed(changed: bool) -> Verdict {
    Verdict::Agreed { changed, contradicted: Vec::new() }
}

struct Table(Cells, Instant);

impl Table {
    fn new(quorum: usize) -> Self {
        Self(Cells::new(quorum), Instant::now())
    }

    fn vote(&mut self, endpoint: EndpointId, ledger: u32, value: Option<Value>) -> Verdict {
        self.0.vote(&KEY, endpoint, ledger, value, self.1)
    }

    fn is_read(&self) -> bool {
        self.0.is_read(&KEY, Duration::ZERO, self.1)
    }

    fn now(&self) -> Option<Value> {
        self.0.value(&KEY).cloned()
    }
}

const KEY: Key = Key::RelaySlot(7);

#[test]
fn a_single_endpoint_is_believed_but_never_backwards() {
    let mut table = Table::new(1);
    assert_eq!(table.vote(0, 10, value(9, 1)), agreed(true));
    assert_eq!(table.vote(0, 12, value(11, 2)), agreed(true));
    assert_eq!(table.vote(0, 11, value(9, 1)), Verdict::TooOld);
    assert_eq!(table.vote(0, 13, None), agreed(true));
    assert_eq!(table.now(), None);
}

#[test]
fn a_change_needs_the_same_bytes_twice() {
    let mut table = Table::new(2);
    assert_eq!(table.vote(0, 10, value(5, 1)), Verdict::Undecided);
    assert_eq!(table.vote(1, 11, value(5, 1)), agreed(true));
    assert_eq!(table.vote(0, 12, value(12, 2)), Verdict::Undecided);
    // An endpoint that lags confirms the old state and is no contradiction.
    assert_eq!(table.vote(1, 11, value(5, 1)), Verdict::Undecided);
    assert_eq!((table.now(), table.0.disputed()), (value(5, 1), 0));
    assert_eq!(table.vote(1, 12, value(12, 2)), agreed(true));
    assert_eq!((table.now(), table.0.open()), (value(12, 2), 0));
}

#[test]
fn one_liar_of_three_is_outvoted_and_named() {
    let mut table = Table::new(2);
    table.vote(0, 10, value(5, 1));
    table.vote(1, 10, value(5, 1));
    assert_eq!(table.vote(2, 11, value(11, 66)), Verdict::Undecided);
    assert_eq!(table.vote(0, 11, value(5, 1)), Verdict::Undecided, "the liar's word is one against one");
    assert_eq!(table.0.disputed(), 1);
    let Verdict::Agreed { changed: false, contradicted } = table.vote(1, 12, value(5, 1)) else { panic!() };
    assert_eq!(contradicted, [2]);
    assert_eq!((table.now(), table.0.open(), table.0.disputed()), (value(5, 1), 0, 0));
    // A lie about the past is seen at once.
    let Verdict::Agreed { changed: false, contradicted } = table.vote(2, 12, value(4, 66)) else { panic!() };
    assert_eq!(contradicted, [2]);
}

#[test]
fn two_that_contradict_each_other_keep_the_last_state() {
    let mut table = Table::new(2);
    table.vote(0, 10, value(5, 1));
    table.vote(1, 10, value(5, 1));
    table.0.demand(&KEY, 20);
    assert_eq!(table.vote(0, 20, value(18, 2)), Verdict::Undecided);
    assert!(!table.is_read());
    assert_eq!(table.vote(1, 21, None), Verdict::Undecided, "it may have been removed in ledger 21");
    assert!(!table.is_read());
    assert_eq!(table.vote(1, 20, value(5, 1)), Verdict::Undecided);
    assert!(table.is_read() && table.0.disputed() == 1);
    assert_eq!(table.now(), value(5, 1));
    assert_eq!(table.vote(1, 22, value(18, 2)), agreed(true));
    assert_eq!(table.0.disputed(), 0);
}

#[test]
fn answers_below_the_demanded_ledger_do_not_count() {
    let mut table = Table::new(2);
    table.vote(0, 10, value(5, 1));
    table.0.demand(&KEY, 12);
    assert_eq!(table.vote(1, 11, value(5, 1)), Verdict::TooOld);
    assert_eq!(table.vote(1, 12, value(5, 1)), Verdict::Undecided, "the vote of ledger 10 was dropped");
    assert_eq!(table.vote(0, 13, value(5, 1)), agreed(true));
}

#[test]
fn content_of_an_instance_has_no_age_and_is_disputed_only_within_one_ledger() {
    let mut table = Table::new(2);
    table.vote(0, 10, value(0, 1));
    table.vote(1, 10, value(0, 1));
    assert_eq!(table.vote(0, 11, value(0, 2)), Verdict::Undecided);
    assert_eq!(table.vote(1, 10, value(0, 1)), Verdict::Undecided);
    assert_eq!(table.0.disputed(), 0);
    assert_eq!(table.vote(1, 11, value(0, 1)), Verdict::Undecided);
    assert_eq!(table.0.disputed(), 1);
    assert_eq!(table.vote(1, 12, value(0, 2)), agreed(true));
}
