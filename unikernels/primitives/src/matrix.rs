//! A product of matrices of integers (SOSP'95, table 9): what no operating system should slow down.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;

/// Rows, and columns.
pub const SIZE: usize = 150;

/// Two matrices and their product.
pub struct Matrices {
    left: Vec<u32>,
    right: Vec<u32>,
    product: Vec<u32>,
}

impl Matrices {
    /// With contents that are the same everywhere.
    pub fn new() -> Matrices {
        let fill = |factor: u32| (0..(SIZE * SIZE) as u32).map(|at| at.wrapping_mul(factor) >> 7).collect();
        Matrices { left: fill(2_654_435_761), right: fill(40_503), product: vec![0; SIZE * SIZE] }
    }

    /// Multiplies them, by the definition. Returns the sum of the product, which tells whether it is right.
    #[inline(never)]
    pub fn multiply(&mut self) -> u32 {
        for (row, products) in self.product.chunks_exact_mut(SIZE).enumerate() {
            let left = &self.left[row * SIZE..][..SIZE];
            for (column, product) in products.iter_mut().enumerate() {
                let rights = self.right.iter().skip(column).step_by(SIZE);
                let terms = left.iter().zip(rights).map(|(left, right)| left.wrapping_mul(*right));
                *product = terms.fold(0, u32::wrapping_add);
            }
        }
        black_box(&self.product).iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }
}
