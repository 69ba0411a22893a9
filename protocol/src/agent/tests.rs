//! The agent's decisions one by one; [`simulation`] has it among many failing relays.

use super::*;
use crate::selection::tests::{directory, policy, relay};

mod simulation;

#[test]
fn a_client_alone_with_one_relay_keeps_it_while_it_drains_and_comes_back() {
    let start = Instant::now();
    let only = relay(1);
    let mut agent = Agent::new(Config { sessions: 2, policy: policy(), seed: 1 });
    assert_eq!(agent.state(start), State::Connecting);
    agent.handle(start, Event::Directory(Arc::new(directory([only.clone()]))));
    let drain = |agent: &mut Agent| std::iter::from_fn(|| agent.poll_action()).collect::<Vec<_>>();
    assert!(matches!(drain(&mut agent)[..], [Action::Measure(_)]));
    agent.handle(start, Event::Measured(only.address, Some(Duration::from_millis(3))));
    assert!(matches!(drain(&mut agent)[..], [Action::Dial(_)]));
    assert_eq!(agent.state(start), State::Authenticating);
    agent.handle(start, Event::Connected(only.address));
    assert_eq!(drain(&mut agent), [Action::Publish(vec![only.address])]);
    assert_eq!(agent.state(start), State::Connected);
    let later = start + Duration::from_secs(5);
    agent.handle(later, Event::Draining(only.address, later + Duration::from_secs(60)));
    assert_eq!(drain(&mut agent), [], "the only relay is kept and stays published");
    agent.handle(later, Event::Lost(only.address, Loss::Closed));
    assert_eq!(agent.state(later), State::Reconnecting);
    let again = agent.poll_timeout(later).unwrap();
    assert!(again <= later + Duration::from_secs(1));
    agent.handle_timeout(again);
    assert!(matches!(drain(&mut agent)[..], [Action::Dial(_)]));
    agent.handle(again, Event::Connected(only.address));
    assert!(drain(&mut agent).is_empty(), "the presence it already knows still says the same");
    agent.handle(again + Duration::from_secs(1801), Event::Stop);
    assert_eq!(
        drain(&mut agent),
        [Action::Publish(vec![]), Action::Close(only.address, Duration::from_secs(30))]
    );
    assert_eq!(agent.state(again), State::Disconnected);
}

#[test]
fn the_presence_is_renewed_at_half_life_and_after_a_newer_one_was_seen() {
    let start = Instant::now();
    let one = relay(1);
    let mut agent = Agent::new(Config { sessions: 1, policy: policy(), seed: 1 });
    agent.handle(start, Event::Directory(Arc::new(directory([one.clone()]))));
    agent.handle(start, Event::Measured(one.address, None));
    agent.handle_timeout(start + MEASURE_PATIENCE);
    agent.handle(start + MEASURE_PATIENCE, Event::Connected(one.address));
    let published = |agent: &mut Agent| {
        std::iter::from_fn(|| agent.poll_action()).filter(|a| matches!(a, Action::Publish(_))).count()
    };
    assert_eq!(published(&mut agent), 1);
    agent.handle_timeout(start + Duration::from_secs(1700));
    assert_eq!(published(&mut agent), 0);
    agent.handle_timeout(start + Duration::from_secs(1802));
    assert_eq!(published(&mut agent), 1);
    agent.handle(start + Duration::from_secs(1803), Event::Stale(one.address));
    assert_eq!(published(&mut agent), 1);
}
