package main

import (
	"context"
	"math"
	"math/big"

	pb "tallymesh.dev/examples/go-worker/tallymesh/v1"
)

// segment is how many numbers are sieved at a time: few enough for a core's cache, and for a chunk
// that is stopped to end within a millisecond.
const segment = 1 << 17

// countChunk counts the primes of chunk i of n.
//
// All workers have to cut the work alike (Chunk.of in services/kernels): the chunk reaches from
// start + width*i/n to before start + width*(i+1)/n, where width*i/n is rounded down.
func countChunk(ctx context.Context, work *pb.CountPrimes, i, n int64) (int64, error) {
	begin, end := bound(work, i, n), bound(work, i+1, n)
	if begin.Cmp(end) == 0 {
		return 0, nil
	}
	return countPrimes(ctx, begin.Uint64(), end.Sub(end, big.NewInt(1)).Uint64())
}

// bound is where chunk i of n begins; width*i can take more than 64 bits.
func bound(work *pb.CountPrimes, i, n int64) *big.Int {
	offset := new(big.Int).SetUint64(work.Stop - work.Start)
	offset.Add(offset, big.NewInt(1)) // the width, as both ends count
	offset.Mul(offset, big.NewInt(i))
	offset.Div(offset, big.NewInt(n))
	return offset.Add(offset, new(big.Int).SetUint64(work.Start))
}

// countPrimes counts the primes p with first <= p <= last by a segmented sieve of Eratosthenes. It
// keeps a byte for each number to the root of last: good for numbers up to some 10^15.
func countPrimes(ctx context.Context, first, last uint64) (int64, error) {
	first = max(first, 2)
	if last < first {
		return 0, nil
	}
	count := int64(0)
	divisors := primesTo(uint64(math.Sqrt(float64(last))) + 1) // one more, lest it be rounded down
	composite := make([]bool, segment)
	for left := last - first + 1; left > 0; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		size := min(left, segment)
		clear(composite)
		for _, p := range divisors {
			multiple := (p - first%p) % p // counted from first, as all indices here
			if p*p > first {
				multiple = p*p - first // smaller multiples have a smaller divisor
			}
			for ; multiple < size; multiple += p {
				composite[multiple] = true
			}
		}
		for _, crossed := range composite[:size] {
			if !crossed {
				count++
			}
		}
		first, left = first+size, left-size
	}
	return count, nil
}

// primesTo lists the primes up to n.
func primesTo(n uint64) []uint64 {
	var primes []uint64
	composite := make([]bool, n+1)
	for p := uint64(2); p <= n; p++ {
		if composite[p] {
			continue
		}
		primes = append(primes, p)
		for multiple := p * p; multiple <= n; multiple += p {
			composite[multiple] = true
		}
	}
	return primes
}
