package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "tallymesh.dev/examples/go-worker/tallymesh/v1"
)

const (
	wait     = time.Second            // for chunks: well under the 5 s after which the silent are lost
	patience = 2 * time.Second        // with an answer that is due; then the call is repeated
	pause    = 200 * time.Millisecond // before that
	farewell = 5 * time.Second        // for saying goodbye
)

// A worker keeps the rules of docs/worker-protocol.md. Each of its slots makes calls of its own.
type worker struct {
	client pb.DispatchServiceClient
	self   *pb.Worker
	leave  context.CancelFunc // called when the mesh wants the worker to leave

	mu   sync.Mutex
	open map[string]bool                       // ids of the calls without an answer
	held map[*pb.ChunkRange]context.CancelFunc // chunks not yet handed in or back; what stops them
}

// run computes in so many slots until ctx is done, and then hands back what is not finished.
func (w *worker) run(ctx context.Context, slots int) {
	var tasks sync.WaitGroup
	tasks.Go(func() { w.beat(ctx) })
	for range slots {
		tasks.Go(func() { w.work(ctx) })
	}
	<-ctx.Done()
	time.AfterFunc(farewell, func() { log.Fatal("gone without a goodbye: no gateway answers") })
	tasks.Wait()
	rest := slices.Collect(maps.Keys(w.held))
	w.synchronize(&pb.SynchronizeRequest{Draining: true, Returned: rest}, nil)
	clear(w.held)
	w.synchronize(&pb.SynchronizeRequest{Draining: true}, nil)
}

// synchronize repeats a call until it is answered. stop is to stop the chunks of the answer.
func (w *worker) synchronize(
	call *pb.SynchronizeRequest, stop context.CancelFunc,
) *pb.SynchronizeResponse {
	call.CallId, call.Worker = rand.Text(), w.self
	for {
		w.mu.Lock() // what other answers brought or ended since the last try is told as it is now
		delete(w.open, call.CallId)
		call.Held = slices.Collect(maps.Keys(w.held))
		call.OpenCallIds = slices.Collect(maps.Keys(w.open))
		w.open[call.CallId] = true
		w.mu.Unlock()

		ctx, cancel := context.WithTimeout(context.Background(), call.Wait.AsDuration()+patience)
		answer, err := w.client.Synchronize(ctx, call)
		cancel()
		switch status.Code(err) {
		case codes.OK:
			w.settle(call, answer, stop)
			return answer
		case codes.InvalidArgument: // a fault of this program, which no repetition mends
			log.Fatal(err)
		}
		log.Print("no answer yet: ", err)
		time.Sleep(pause)
	}
}

// settle takes note of what an answered call has changed.
func (w *worker) settle(
	call *pb.SynchronizeRequest, answer *pb.SynchronizeResponse, stop context.CancelFunc,
) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, call.CallId)
	for _, result := range call.Results {
		delete(w.held, result.Chunks)
	}
	for _, failure := range call.Failures {
		delete(w.held, failure.Chunk)
	}
	for _, assignment := range answer.Assignments {
		w.held[assignment.Chunks] = stop
	}
	for _, lost := range answer.Stop {
		for chunk, stop := range w.held {
			if lost.Job == chunk.Job && lost.Epoch == chunk.Epoch &&
				(lost.Attempt == 0 || lost.Attempt == chunk.Attempt) &&
				lost.First <= chunk.First && chunk.First < lost.First+lost.Count {
				stop()
			}
		}
	}
	if answer.Drain {
		w.leave()
	}
}

// work does one chunk after the other: the call that tells of one asks for the next.
func (w *worker) work(ctx context.Context) {
	call := &pb.SynchronizeRequest{}
	for ctx.Err() == nil {
		running, stop := context.WithCancel(ctx)
		call.Capacity, call.Wait = 1, durationpb.New(wait)
		answer := w.synchronize(call, stop)
		call = &pb.SynchronizeRequest{}
		if len(answer.Assignments) > 0 { // one at most, as one was asked for
			chunk := answer.Assignments[0].Chunks
			call = compute(running, chunk, answer.Works[0])
			if running.Err() != nil && ctx.Err() == nil { // it was to stop, and has
				w.mu.Lock()
				delete(w.held, chunk)
				w.mu.Unlock()
			}
		}
		stop()
	}
	w.synchronize(call, nil)
}

// compute counts the primes of a chunk, and returns a call that tells what came of it, if anything.
func compute(ctx context.Context, chunk *pb.ChunkRange, job *pb.JobWork) *pb.SynchronizeRequest {
	if job.ChunkTimeout != nil {
		limited, cancel := context.WithTimeout(ctx, job.ChunkTimeout.AsDuration())
		defer cancel()
		ctx = limited
	}
	begun := time.Now()
	primes, err := countChunk(ctx, job.Work.GetCountPrimes(), chunk.First, job.ChunkCount)
	micros := uint64(time.Since(begun).Microseconds())
	switch {
	case err == nil:
		return &pb.SynchronizeRequest{Results: []*pb.ChunkResults{{Chunks: chunk, Sums: []int64{primes},
			ComputeMicros: []uint64{micros}, AgeMicros: micros, ElapsedMicros: micros}}}
	case errors.Is(err, context.DeadlineExceeded):
		return &pb.SynchronizeRequest{Failures: []*pb.ChunkFailure{{Chunk: chunk,
			Reason: pb.ErrorReason_ERROR_REASON_CHUNK_TIMED_OUT, Message: "not counted in time"}}}
	}
	return &pb.SynchronizeRequest{} // it was stopped
}

// beat keeps a call waiting while slots compute: the worker is seen to live and hears what to stop.
func (w *worker) beat(ctx context.Context) {
	for ctx.Err() == nil {
		w.synchronize(&pb.SynchronizeRequest{Wait: durationpb.New(wait)}, nil)
	}
}
