//! Pushes, answers and silence in any order.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn pushes_in_any_order_never_apply_a_version_twice_or_backwards(
        fetched in 0_u64..8, before in prop::collection::vec(0_u64..12, 0..20), after in prop::collection::vec(0_u64..16, 0..20),
    ) {
        let mut talk = Talk::new();
        let (id, _) = talk.next().unwrap();
        talk.answer(id, 200, &json!(null));
        let (id, _) = talk.next().unwrap();
        for version in before {
            prop_assert!(talk.push(version).is_empty());
        }
        let mut seen = versions(&talk.answer(id, 200, &twin(fetched)));
        for version in after {
            seen.extend(versions(&talk.push(version)));
        }
        let expected: Vec<u64> = (fetched..).take(seen.len()).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn whatever_the_hub_says_one_request_is_out_and_time_goes_on(
        steps in prop::collection::vec((0_u8..6, prop::collection::vec(any::<u8>(), 0..60), 0_i64..700, any::<Option<u64>>()), 0..40),
    ) {
        let mut talk = Talk::new();
        let mut out = None;
        for (step, body, status, version) in steps {
            match step {
                0 | 1 => out = talk.next().map(|(id, _)| id).or(out),
                2 => drop(talk.conversation.pushed(talk.now, &body, version)),
                3 => drop(talk.conversation.answered(talk.now, Uuid::new_v4(), Answer { status, version, body: &body })),
                4 => if let Some(id) = out {
                    let body = if status % 2 == 0 { twin(status.unsigned_abs()).to_string().into_bytes() } else { body };
                    drop(talk.conversation.answered(talk.now, id, Answer { status, version, body: &body }));
                },
                _ => if talk.conversation.due(talk.now).is_some() { talk.wait(); },
            }
            prop_assert!(talk.conversation.early.len() <= EARLY + 1);
        }
        // Whatever state it is in, it asks again within the limit and the longest wait.
        for _ in 0..4 {
            if talk.conversation.due(talk.now).is_some() {
                prop_assert!(talk.wait() <= Duration::from_secs(3_600).max(LIMIT));
            }
            talk.next();
        }
    }
}
