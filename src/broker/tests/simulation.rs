//! Two thousand seeds of a broker without sockets, threads or real time.
//!
//! A seed draws bounds and a load ([`plan`]); publishers, readers, listeners and the clock act as the dice have it
//! ([`driver`], [`actor`], [`worker`], [`stage`]) and everything that they observe is recorded ([`event`]). A checker that knows nothing
//! but this record judges it by a model of its own ([`checker`], [`reader`], [`audience`], [`model`]). That the checker sees what it should
//! is known because bugs are put between it and the record ([`planted`], [`seats`]).
//!
//! Readers leave and come back where they were, once or twice, and to channels that were trimmed or evicted meanwhile, or to another
//! broker ([`breaks`]). Some want the newest alone or nothing that is too old, or are cut off when they lag. Publishers try again with
//! keys ([`attempts`]).
//!
//! `TIDINGS_SEED=7` plays one seed, `TIDINGS_SEEDS=100000` many.

use std::{collections::VecDeque, fmt::Write, thread};

use self::{
    checker::Checker,
    driver::Driver,
    event::Event,
    plan::{Dice, Plan},
    planted::{Bug, Planted},
    tally::Tally,
    violation::Violation,
};

mod actor;
mod attempts;
mod audience;
mod breaks;
mod checker;
mod driver;
mod event;
mod later;
mod model;
mod plan;
mod planted;
mod reader;
mod seats;
mod stage;
mod tally;
mod violation;
mod worker;

/// Events before a violation that are printed.
const TRACE: usize = 60;

struct Run {
    tally: Tally,
    nested: u64,
    raced: u64,
    amid_telling: u64,
    /// Whether the planted bug struck.
    struck: bool,
    violation: Option<Violation>,
    /// What the checker saw last.
    trace: VecDeque<Event>,
    plan: Plan,
}

/// Says which seed it was when the broker panics.
struct Playing(u64);

impl Drop for Playing {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("while playing TIDINGS_SEED={}", self.0);
        }
    }
}

fn play(seed: u64, bug: Option<Bug>) -> Run {
    let _playing = Playing(seed);
    let mut dice = Dice::new(seed);
    let plan = Plan::draw(seed, &mut dice);
    let mut driver = Driver::new(dice, plan.clone(), bug);
    let mut checker = Checker::new(plan.clone());
    let mut planted = Planted::new(bug);
    let mut trace = VecDeque::new();
    let mut violation = None;
    for step in 0.. {
        let action = if step < plan.steps {
            driver.step()
        } else if let Some(action) = driver.finish(step - plan.steps) {
            action
        } else {
            break;
        };
        let mut events = driver.observe();
        events.push(Event::Settled { step, action });
        for event in events {
            let event = planted.show(event);
            let verdict = checker.check(&event);
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(event);
            if let Err(found) = verdict {
                violation = Some(found);
                break;
            }
        }
        if violation.is_some() {
            break;
        }
    }
    let (nested, raced, amid_telling) = {
        let state = driver.stage.lock();
        (state.nested, state.raced, state.amid_telling)
    };
    Run {
        tally: checker.tally,
        nested,
        raced,
        amid_telling,
        struck: planted.struck,
        violation,
        trace,
        plan,
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number of a seed, or of seeds"))
}

#[test]
fn two_thousand_seeds_keep_every_promise() {
    let one = variable("TIDINGS_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..variable("TIDINGS_SEEDS").unwrap_or(2_000),
    };
    let mut happened = [0; 24];
    for seed in seeds.clone() {
        let run = play(seed, None);
        if let Some(violation) = &run.violation {
            let mut text = format!("TIDINGS_SEED={seed}: {violation:?}\n{:?}\n", run.plan);
            for event in &run.trace {
                writeln!(text, "  {event:?}").unwrap();
            }
            panic!("{text}");
        }
        let tally = run.tally;
        let counts = [
            tally.publications,
            tally.delivered,
            tally.lagged,
            tally.listeners_lagged,
            tally.woken,
            tally.waited,
            tally.evicted,
            tally.refused,
            tally.ended,
            run.nested,
            run.raced,
            tally.due,
            tally.called,
            run.amid_telling,
            tally.resumed,
            tally.resumed_idle,
            tally.not_recovered,
            tally.latest,
            tally.skipped,
            tally.keyed,
            tally.duplicates,
            tally.reused,
            tally.restarted,
            tally.stepped_back,
        ];
        for (sum, count) in happened.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    // A hundred times each: a simulation in which something never happens says nothing of it.
    if seeds.end - seeds.start >= 1_000 {
        assert!(happened.iter().all(|sum| *sum > 100), "{happened:?}");
    }
}

#[test]
fn a_seed_is_played_the_same_way_again() {
    for seed in [1, 41, 42] {
        let (once, again) = (play(seed, None), play(seed, None));
        assert_eq!(format!("{:?}", once.trace), format!("{:?}", again.trace));
    }
}

/// Plays seeds with a bug until it was caught 20 times. Whenever it strikes it is caught, and by its name.
fn catches(bug: Bug) {
    let mut caught = 0;
    for seed in 30..830 {
        let run = play(seed, Some(bug));
        match run.violation {
            Some(Violation { kind, what }) => {
                let breaks = bug.breaks();
                assert!(
                    breaks.contains(&kind),
                    "TIDINGS_SEED={seed}: {kind:?}, {what}"
                );
                caught += 1;
            }
            None => assert!(!run.struck, "TIDINGS_SEED={seed} does not see {bug:?}"),
        }
        if caught == 20 {
            return;
        }
    }
    panic!("{bug:?} was caught {caught} times only");
}

macro_rules! planted_bugs_are_caught {
    ($($name:ident: $bug:ident;)*) => {$(
        #[test]
        fn $name() {
            catches(Bug::$bug);
        }
    )*};
}

planted_bugs_are_caught! {
    a_publication_skipped_in_silence_is_caught: Skipped;
    a_duplicate_is_caught: Duplicated;
    two_in_the_wrong_order_are_caught: Swapped;
    a_lagged_that_is_swallowed_is_caught: LaggedSwallowed;
    a_lagged_that_covers_too_much_is_caught: LaggedTooFar;
    a_lagged_that_ends_too_early_is_caught: LaggedTooShort;
    a_lagged_that_begins_too_late_is_caught: LaggedTooLate;
    another_payload_at_an_offset_is_caught: WrongPayload;
    another_time_is_caught: WrongTime;
    a_delivery_of_another_channel_is_caught: WrongChannel;
    a_delivery_from_before_the_join_is_caught: BeforeJoin;
    an_end_before_the_end_is_caught: EndedEarly;
    a_missed_wakeup_is_caught: WakeupMissed;
    an_old_epoch_after_eviction_is_caught: OldEpoch;
    an_offset_given_twice_in_an_epoch_is_caught: OffsetReused;
    an_acknowledgement_of_another_offset_is_caught: AcknowledgedElsewhere;
    a_refusal_without_need_is_caught: RefusedWithRoom;
    a_reader_that_never_leaves_is_caught: NeverLeaves;
    an_idle_channel_that_stays_is_caught: NeverLeavesUnseen;
    a_log_without_retention_is_caught: NoRetention;
    a_channel_above_the_bound_is_caught: OneChannelTooMany;
    a_channel_evicted_too_early_is_caught: EvictedEarly;
    a_reader_that_is_passed_over_is_caught: DueLost;
    a_reader_that_is_told_twice_is_caught: DueTwice;
    a_reader_that_another_audience_tells_is_caught: DueElsewhere;
    a_worker_that_is_not_called_is_caught: CallLost;
    a_section_cleared_after_telling_is_caught: ClearedAfterTelling;
    a_waker_of_an_earlier_poll_is_caught: OldWakerCalled;
    a_seat_that_is_kept_is_caught: SeatKept;
    a_seat_freed_for_another_is_caught: SeatFreedForAnother;
    a_seat_freed_twice_is_caught: SeatFreedTwice;
    a_publication_skipped_at_the_seam_is_caught: SeamSkipped;
    a_duplicate_at_the_seam_is_caught: SeamRepeated;
    a_false_recovery_is_caught: RecoveredFalsely;
    a_recovery_denied_without_need_is_caught: RecoveryDenied;
    a_beginning_with_too_few_is_caught: LatestTooFew;
    what_is_tried_again_and_stored_again_is_caught: StoredAgain;
    what_is_tried_again_and_told_another_position_is_caught: DuplicateElsewhere;
    a_new_key_that_is_taken_for_a_known_one_is_caught: DuplicateOfNothing;
    a_new_key_that_is_refused_is_caught: KeyRefused;
    what_is_skipped_beyond_the_wish_is_caught: SkippedTooFar;
    a_skip_that_ends_too_early_is_caught: SkippedTooShort;
    a_skip_that_begins_too_late_is_caught: SkippedTooLate;
    a_skip_that_is_told_as_a_loss_is_caught: SkippedAsLagged;
    a_skip_that_is_swallowed_is_caught: SkippedSwallowed;
    what_is_too_old_for_its_reader_is_caught: TooOldGiven;
    a_recovery_over_a_restart_is_caught: RecoveredOverRestart;
    an_epoch_that_survives_a_restart_is_caught: EpochOverRestart;
    memory_that_is_not_given_back_is_caught: MemoryLeaked;
    publications_that_are_not_counted_are_caught: MemoryUncounted;
}
