package main

import (
	"context"
	"testing"

	pb "tallymesh.dev/examples/go-worker/tallymesh/v1"
)

func TestCountPrimes(t *testing.T) {
	cases := []struct {
		first, last uint64
		want        int64
	}{
		{0, 1, 0}, {2, 2, 1}, {0, 100, 25}, {4, 4, 0}, {25, 25, 0}, {8, 10, 0},
		{0, 1_000_000, 78_498},
		{segment - 2, segment + 30, 2},
		{1_000_000_000_000, 1_000_000_001_000, 37},
		{999_966_000_289, 999_966_000_289, 0}, // the square of a prime
	}
	for _, c := range cases {
		if got, err := countPrimes(context.Background(), c.first, c.last); got != c.want || err != nil {
			t.Errorf("primes from %d to %d: %d (%v), want %d", c.first, c.last, got, err, c.want)
		}
	}
}

func TestBound(t *testing.T) {
	work := &pb.CountPrimes{Start: 3, Stop: 12}
	for i, want := range []uint64{3, 5, 8, 10, 13} { // 10 numbers in 4 chunks
		if got := bound(work, int64(i), 4); got.Uint64() != want {
			t.Errorf("chunk %d of 4 begins at %v, want %d", i, got, want)
		}
	}
}

func TestChunksJoin(t *testing.T) {
	for _, work := range []*pb.CountPrimes{
		{Start: 0, Stop: 100}, {Start: 7, Stop: 7}, {Start: 1, Stop: 1<<64 - 1}, {Start: 0, Stop: 1<<64 - 1},
	} {
		for _, n := range []int64{1, 2, 3, 10, 1000, 1 << 22} {
			first, next := bound(work, 0, n), bound(work, n, n)
			if first.Uint64() != work.Start || next.Uint64() != work.Stop+1 {
				t.Errorf("%v in %d chunks reaches from %v to before %v", work, n, first, next)
			}
		}
	}
}

func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := countPrimes(ctx, 0, 1_000_000); err == nil {
		t.Error("counted to the end")
	}
}
