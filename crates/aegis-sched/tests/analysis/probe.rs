use std::time::Instant;
use aegis_sched::analysis::{decide, respond, ladder::ladder, Stop, Blocking, LaneProblem, LaneTask};
use aegis_sched::referee::check;
use aegis_sched::PolicyClass;
use aegis_types::{LaneId, Nanos, TaskId};
use crate::generate::Rng;
fn lane(rng: &mut Rng, class: PolicyClass, n: u64, u: u64) -> LaneProblem {
    let mut tasks = Vec::new();
    for i in 0..n {
        // log-uniform 1..100ms
        let e = rng.range(0, 2000) as f64 / 1000.0;
        let t = (1e6 * 10f64.powf(e) * 4.0) as u64;
        let c = (t as u128 * u as u128 / 100 / n as u128) as u64;
        let c = c.min(400_000);
        tasks.push(LaneTask{ id: TaskId::new(i as u16), segments: vec![Nanos::new(c)], period: Nanos::new(t), deadline: Nanos::new(t), jitter: Nanos::new(50_000), key: t});
    }
    LaneProblem { lane: LaneId::new(0), tasks, class, blocking: Blocking::Attained, overrun: Nanos::ZERO }
}
#[test]
fn probe() {
    for class in [PolicyClass::StaticPriority, PolicyClass::AbsoluteDeadline, PolicyClass::ArrivalOrder] {
        for u in [50, 70, 90, 97] {
            let mut d = vec![]; let mut r = vec![]; let mut l = vec![]; let mut k = vec![]; let mut ok = 0;
            for seed in 0..200 {
                let p = lane(&mut Rng::new(seed), class, 30, u);
                let s = Instant::now(); let c = decide(&p); let e1 = s.elapsed();
                let Ok(c) = c else { continue }; ok += 1;
                d.push(e1.as_nanos());
                let s = Instant::now(); check(&p, &c).unwrap(); k.push(s.elapsed().as_nanos());
                let s = Instant::now(); respond(&p, Stop::Never).unwrap(); r.push(s.elapsed().as_nanos());
                if seed < 20 { let s = Instant::now(); let q = ladder(&p, 8).unwrap(); l.push(s.elapsed().as_nanos());
                   let s = Instant::now(); let mut p = p.clone(); for c in &q { p.overrun = c.overrun; check(&p, c).unwrap(); } l.push(s.elapsed().as_nanos()); }
            }
            for v in [&mut d, &mut k, &mut r, &mut l] { v.sort(); }
            let m = |v: &Vec<u128>| if v.is_empty() { (0,0) } else { (v[v.len()/2], v[v.len()-1]) };
            println!("{class} u{u} ok{ok}: decide {:?} check {:?} respond {:?} ladder/check {:?}", m(&d), m(&k), m(&r), m(&l));
        }
    }
}
