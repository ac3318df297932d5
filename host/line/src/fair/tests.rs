//! Tests the order in which slots are given, step by step and without clocks.

use super::*;

const MS: Duration = Duration::from_millis(1);
const HOG: Duration = Duration::from_millis(250);

/// The scheduler, with names for its requests.
struct Room {
    fair: Fair,
    names: HashMap<SlotRequest, &'static str>,
}

impl Room {
    fn new(slots: usize) -> Self {
        Self {
            fair: Fair::new(slots),
            names: HashMap::new(),
        }
    }

    /// Creates a scheduler in which these tenants have taken this long per mail so far.
    fn knowing(slots: usize, tenants: &[(&'static str, Duration)]) -> Self {
        let mut room = Self::new(slots);
        for (tenant, each) in tenants {
            let ticket = room.ask(tenant);
            assert_eq!(room.give(), [ticket]);
            room.fair.leave(ticket, 1, *each);
        }
        // The time that took is not part of the test.
        for tenant in &mut room.fair.tenants {
            tenant.used = Duration::ZERO;
        }
        room.fair.reached = Duration::ZERO;
        room
    }

    fn ask(&mut self, tenant: &'static str) -> SlotRequest {
        let ticket = self.fair.ask(tenant, Work::Decide);
        self.names.insert(ticket, tenant);
        ticket
    }

    fn give(&mut self) -> Vec<SlotRequest> {
        let given: Vec<SlotRequest> = std::iter::from_fn(|| self.fair.give()).collect();
        assert!(self.fair.held <= self.fair.slots);
        assert!(self.fair.held_slow < self.fair.slots);
        given
    }

    fn given(&mut self) -> Vec<&'static str> {
        let given = self.give();
        given.iter().map(|ticket| self.names[ticket]).collect()
    }
}

/// A tenant that always has the next mail ready, how long each mail takes, and the most slots it uses.
type Backlog = (&'static str, Duration, usize);

/// Simulates backlogs for the given time and returns how long each tenant held slots.
fn simulate(
    room: &mut Room,
    backlogs: &[Backlog],
    lasts: Duration,
) -> HashMap<&'static str, Duration> {
    let lengths: HashMap<_, _> = backlogs
        .iter()
        .map(|(who, each, _)| (*who, *each))
        .collect();
    let mut running: BTreeSet<(Duration, SlotRequest)> = BTreeSet::new();
    let mut used = HashMap::new();
    for (who, _, most) in backlogs {
        for _ in 0..*most {
            room.ask(who);
        }
    }
    let mut now = Duration::ZERO;
    while now < lasts {
        for ticket in room.give() {
            running.insert((now + lengths[room.names[&ticket]], ticket));
        }
        let (ends, ticket) = running.pop_first().expect("somebody works");
        let who = room.names[&ticket];
        now = ends;
        *used.entry(who).or_default() += lengths[who];
        room.fair.leave(ticket, 1, lengths[who]);
        room.ask(who);
    }
    used
}

#[test]
fn a_quick_tenant_alone_has_every_slot() {
    let mut room = Room::knowing(4, &[("a", MS)]);
    for _ in 0..6 {
        room.ask("a");
    }
    assert_eq!(room.given(), ["a"; 4]);
}

#[test]
fn slow_tenants_together_leave_one_slot_and_a_quick_one_has_it_at_once() {
    let mut room = Room::knowing(4, &[("hog", HOG), ("other hog", HOG), ("quiet", MS)]);
    for tenant in ["hog", "hog", "hog", "hog", "other hog"] {
        room.ask(tenant);
    }
    assert_eq!(room.given(), ["hog", "other hog", "hog"]);
    room.ask("quiet");
    assert_eq!(room.given(), ["quiet"]);
}

#[test]
fn one_core_has_two_slots_and_a_hog_one_of_them() {
    let mut room = Room::knowing(1, &[("hog", HOG), ("quiet", MS)]);
    assert_eq!(room.fair.slots(), 2);
    room.ask("hog");
    room.ask("hog");
    assert_eq!(room.given(), ["hog"]);
    room.ask("quiet");
    assert_eq!(room.given(), ["quiet"]);
}

#[test]
fn who_was_never_seen_has_one_slot_until_the_first_mail_is_done() {
    let mut room = Room::new(4);
    let first = room.ask("new");
    room.ask("new");
    room.ask("new too");
    assert_eq!(room.given(), ["new", "new too"]);
    room.fair.leave(first, 1, MS);
    room.ask("new");
    assert_eq!(room.given(), ["new", "new"]);
}

#[test]
fn a_newcomer_goes_before_a_backlog() {
    let mut room = Room::knowing(2, &[("busy", MS), ("quiet", MS)]);
    simulate(&mut room, &[("busy", MS, 4)], 100 * MS);
    let mut held = room.give();
    room.ask("quiet");
    assert_eq!(room.given(), [""; 0]);
    room.fair.leave(held.remove(0), 1, MS);
    assert_eq!(room.given(), ["quiet"]);
}

#[test]
fn turns_go_by_time_and_not_by_number() {
    let backlogs = [("heavy", 4 * MS, 3), ("light", MS, 3)];
    let mut room = Room::knowing(2, &[("heavy", 4 * MS), ("light", MS)]);
    let used = simulate(&mut room, &backlogs, 10_000 * MS);
    let (heavy, light) = (used["heavy"].as_millis(), used["light"].as_millis());
    assert!(heavy.abs_diff(light) <= 20, "{heavy} ms and {light} ms");
}

#[test]
fn a_hog_has_its_share_beside_tenants_that_never_pause() {
    let quick = [("a", MS, 2), ("b", MS, 2), ("c", MS, 2)];
    let mut room = Room::knowing(2, &[("hog", HOG), ("a", MS), ("b", MS), ("c", MS)]);
    let used = simulate(
        &mut room,
        &[quick[0], ("hog", HOG, 2), quick[1], quick[2]],
        60_000 * MS,
    );
    for (who, used) in used {
        // A quarter of the time of two slots each.
        let share = used.as_millis() * 100 / 120_000;
        assert!((23..=27).contains(&share), "{who} has {share} %");
    }
}

#[test]
fn slow_tenants_share_what_is_theirs() {
    let hogs = [("hog", HOG, 2), ("small hog", 220 * MS, 2)];
    let mut room = Room::knowing(2, &[("hog", HOG), ("small hog", 220 * MS)]);
    let used = simulate(&mut room, &hogs, 60_000 * MS);
    let (large, small) = (used["hog"].as_millis(), used["small hog"].as_millis());
    assert!(large + small <= 60_000 + 250);
    assert!(large.abs_diff(small) <= 500, "{large} ms and {small} ms");
}

#[test]
fn who_was_barred_long_catches_up_only_so_far() {
    let mut room = Room::knowing(2, &[("hog", HOG), ("late hog", HOG), ("busy", MS)]);
    room.ask("hog");
    assert_eq!(room.given(), ["hog"]);
    // It queues first and may not start, however much the others use in the meantime.
    room.ask("late hog");
    simulate(&mut room, &[("busy", MS, 1)], 5_000 * MS);
    let late = room.fair.by_name["late hog"];
    assert_eq!(room.fair.candidate(&room.fair.tenants[late]), None);
    let tickets = room.fair.tickets.iter();
    let (&hog, _) = tickets
        .max_by_key(|(_, place)| place.held.is_some())
        .unwrap();
    room.fair.leave(hog, 1, HOG);
    let (used, _) = room.fair.candidate(&room.fair.tenants[late]).unwrap();
    assert_eq!(used, room.fair.reached - CREDIT);
}

#[test]
fn a_tenant_that_mended_its_rule_is_quick_again_after_some_mails() {
    let mut room = Room::knowing(2, &[("hog", HOG)]);
    let mut mails = 0;
    let tenant = room.fair.by_name["hog"];
    for _ in 0..9 {
        let ticket = room.ask("hog");
        room.give();
        room.fair.leave(ticket, 1, HOG);
    }
    while room.fair.tenants[tenant].speed(Work::Decide) == Speed::Slow {
        let ticket = room.ask("hog");
        room.give();
        room.fair.leave(ticket, 1, MS);
        mails += 1;
        assert!(mails <= 100, "still slow after {mails} quick mails");
    }
    assert!(mails > 10, "forgiven after {mails} mails");
}

#[test]
fn a_mail_that_takes_all_its_time_makes_a_tenant_slow_and_hiccups_do_not() {
    let mut room = Room::knowing(2, &[("a", 60 * MS)]);
    let tenant = room.fair.by_name["a"];
    for (took, speed) in [
        (100 * MS, Speed::Quick),
        (MS, Speed::Quick),
        (HOG, Speed::Slow),
    ] {
        let ticket = room.ask("a");
        room.give();
        room.fair.leave(ticket, 1, took);
        assert_eq!(room.fair.tenants[tenant].speed(Work::Decide), speed);
    }
}

#[test]
fn one_endless_mail_in_fifty_makes_a_tenant_slow_and_steady_five_milliseconds_do_not() {
    let mut room = Room::knowing(2, &[("mixed", MS), ("steady", 5 * MS)]);
    for number in 0..1000 {
        for (who, took) in [
            ("mixed", if number % 50 == 0 { HOG } else { MS }),
            ("steady", 5 * MS),
        ] {
            let ticket = room.ask(who);
            room.give();
            room.fair.leave(ticket, 1, took);
        }
    }
    let speed = |who| room.fair.tenants[room.fair.by_name[who]].speed(Work::Decide);
    assert_eq!(
        (speed("mixed"), speed("steady")),
        (Speed::Slow, Speed::Quick)
    );
}

#[test]
fn quick_parsing_does_not_hide_slow_rules() {
    let mut room = Room::knowing(2, &[("hog", HOG)]);
    let tenant = room.fair.by_name["hog"];
    let parse = room.fair.ask("hog", Work::Parse);
    room.give();
    room.fair.leave(parse, 1000, 100 * MS);
    assert_eq!(room.fair.tenants[tenant].speed(Work::Decide), Speed::Slow);
    assert_eq!(room.fair.tenants[tenant].speed(Work::Parse), Speed::Quick);
}

#[test]
fn a_slow_decision_that_waits_holds_up_no_parsing_of_its_tenant() {
    let mut room = Room::knowing(2, &[("hog", HOG)]);
    room.ask("hog");
    room.ask("hog");
    let parse = room.fair.ask("hog", Work::Parse);
    let given = room.give();
    assert_eq!(given.len(), 2);
    assert!(given.contains(&parse));
}

#[test]
fn who_stops_waiting_or_gives_back_unused_leaves_nothing_behind() {
    let mut room = Room::knowing(2, &[("a", MS), ("b", MS)]);
    let (first, second) = (room.ask("a"), room.ask("a"));
    let (waiting, after) = (room.ask("a"), room.ask("b"));
    assert_eq!(room.give(), [first, after]);
    room.fair.leave(second, 0, Duration::ZERO);
    room.fair.leave(first, 0, Duration::ZERO);
    assert_eq!(room.give(), [waiting]);
    room.fair.leave(waiting, 0, Duration::ZERO);
    room.fair.leave(after, 0, Duration::ZERO);
    // Leaving twice has the same effect as leaving once.
    room.fair.leave(after, 0, Duration::ZERO);
    assert_eq!(room.fair.held, 0);
    assert!(room.fair.tickets.is_empty() && room.fair.lined_up.is_empty());
    assert!(
        room.fair
            .tenants
            .iter()
            .all(|it| it.used.is_zero() && it.held == 0)
    );
}

#[test]
fn whatever_happens_no_free_slot_stands_idle_while_a_quick_tenant_waits() {
    const TENANTS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut seed = 7_u64;
    let mut chance = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for slots in 1..5 {
        let mut room = Room::new(slots);
        let mut open: Vec<SlotRequest> = Vec::new();
        for _ in 0..20_000 {
            if open.is_empty() || (open.len() < 40 && chance(2) == 0) {
                open.push(room.ask(TENANTS[chance(5) as usize]));
            } else {
                let ticket = open.swap_remove(chance(open.len() as u64) as usize);
                let took = [MS / 10, MS, 4 * MS, HOG][chance(4) as usize];
                room.fair.leave(ticket, chance(3) as u32, took);
            }
            room.give();
            let fair = &room.fair;
            let idle = fair.slots - fair.held;
            let quick_waits = fair.lined_up.iter().any(|index| {
                let tenant = &fair.tenants[*index];
                let quick = |work| {
                    tenant.speed(work) == Speed::Quick && !tenant.waiting[work as usize].is_empty()
                };
                quick(Work::Parse) || quick(Work::Decide)
            });
            assert!(idle == 0 || !quick_waits);
        }
        for ticket in open {
            room.fair.leave(ticket, 0, Duration::ZERO);
            room.give();
        }
        assert!(room.fair.held == 0 && room.fair.held_slow == 0 && room.fair.tickets.is_empty());
    }
}
