//! Stands in for the crate `rand`, with the interface of version 0.4 that HumanEval-X's Rust problems were written for.
//!
//! Covers: `random`, `thread_rng`, `ThreadRng`, `Rng` with its samples, ranges, choices and shuffles, `Rand` for
//! numbers, bool, char, tuples of two and options. Every process draws the same numbers, so that a verdict can be
//! repeated: each thread has a seed of its own, counted from a fixed one.
//! Does not cover: `distributions`, seeding by hand, the system's random numbers.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_SEED: AtomicU64 = AtomicU64::new(42);

thread_local! {
    static STATE: Cell<u64> = Cell::new(NEXT_SEED.fetch_add(1 << 32, Ordering::Relaxed));
}

/// The generator of the calling thread.
#[derive(Clone, Debug)]
pub struct ThreadRng(());

/// The generator of the calling thread.
pub fn thread_rng() -> ThreadRng {
    ThreadRng(())
}

/// A value from the calling thread's generator.
pub fn random<T: Rand>() -> T {
    thread_rng().gen()
}

impl Rng for ThreadRng {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn next_u64(&mut self) -> u64 {
        STATE.with(|state| {
            state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            let mut mixed = state.get();
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }
}

/// A source of random values.
pub trait Rng {
    fn next_u32(&mut self) -> u32;

    fn next_u64(&mut self) -> u64 {
        (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())
    }

    fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next_u32() as u8;
        }
    }

    fn gen<T: Rand>(&mut self) -> T
    where
        Self: Sized,
    {
        T::rand(self)
    }

    fn gen_iter<'a, T: Rand>(&'a mut self) -> Generator<'a, T, Self>
    where
        Self: Sized,
    {
        Generator { rng: self, of: std::marker::PhantomData }
    }

    /// A value that is at least `low` and below `high`.
    fn gen_range<T: SampleRange>(&mut self, low: T, high: T) -> T
    where
        Self: Sized,
    {
        assert!(low < high, "Rng.gen_range called with low >= high");
        T::sample(self, low, high)
    }

    fn gen_weighted_bool(&mut self, n: u32) -> bool
    where
        Self: Sized,
    {
        n <= 1 || self.gen_range(0, n) == 0
    }

    fn choose<'a, T>(&mut self, values: &'a [T]) -> Option<&'a T>
    where
        Self: Sized,
    {
        if values.is_empty() { None } else { Some(&values[self.gen_range(0, values.len())]) }
    }

    fn choose_mut<'a, T>(&mut self, values: &'a mut [T]) -> Option<&'a mut T>
    where
        Self: Sized,
    {
        if values.is_empty() {
            return None;
        }
        let at = self.gen_range(0, values.len());
        Some(&mut values[at])
    }

    fn shuffle<T>(&mut self, values: &mut [T])
    where
        Self: Sized,
    {
        for end in (2..=values.len()).rev() {
            values.swap(end - 1, self.gen_range(0, end));
        }
    }
}

impl<'a, R: Rng + ?Sized> Rng for &'a mut R {
    fn next_u32(&mut self) -> u32 {
        (**self).next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// Endless values, as `gen_iter` gives them.
pub struct Generator<'a, T, R: 'a> {
    rng: &'a mut R,
    of: std::marker::PhantomData<T>,
}

impl<'a, T: Rand, R: Rng> Iterator for Generator<'a, T, R> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        Some(self.rng.gen())
    }
}

/// What `gen` can make.
pub trait Rand: Sized {
    fn rand<R: Rng>(rng: &mut R) -> Self;
}

/// What `gen_range` can make.
pub trait SampleRange: PartialOrd + Copy {
    fn sample<R: Rng>(rng: &mut R, low: Self, high: Self) -> Self;
}

macro_rules! integers {
    ($($name:ty)*) => { $(
        impl Rand for $name {
            fn rand<R: Rng>(rng: &mut R) -> Self {
                ((u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64())) as $name
            }
        }

        impl SampleRange for $name {
            fn sample<R: Rng>(rng: &mut R, low: Self, high: Self) -> Self {
                let span = (high as u128).wrapping_sub(low as u128);
                (low as u128).wrapping_add(u128::rand(rng) % span) as $name
            }
        }
    )* };
}

integers!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

macro_rules! floats {
    ($($name:ty, $next:ident)*) => { $(
        impl Rand for $name {
            fn rand<R: Rng>(rng: &mut R) -> Self {
                rng.$next()
            }
        }

        impl SampleRange for $name {
            fn sample<R: Rng>(rng: &mut R, low: Self, high: Self) -> Self {
                low + (high - low) * rng.$next()
            }
        }
    )* };
}

floats!(f32, next_f32 f64, next_f64);

impl Rand for bool {
    fn rand<R: Rng>(rng: &mut R) -> Self {
        rng.next_u32() & 1 == 1
    }
}

impl Rand for char {
    fn rand<R: Rng>(rng: &mut R) -> Self {
        loop {
            if let Some(found) = std::char::from_u32(rng.next_u32() >> 11) {
                return found;
            }
        }
    }
}

impl<A: Rand, B: Rand> Rand for (A, B) {
    fn rand<R: Rng>(rng: &mut R) -> Self {
        (rng.gen(), rng.gen())
    }
}

impl<T: Rand> Rand for Option<T> {
    fn rand<R: Rng>(rng: &mut R) -> Self {
        if rng.gen() { Some(rng.gen()) } else { None }
    }
}
