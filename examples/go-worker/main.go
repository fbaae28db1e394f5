// A worker for count_primes in Go. All it knows of Tallymesh is the call Synchronize (worker.go), and
// how a job is cut into chunks (primes.go).
//
//	go run . -address localhost:8080
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"log"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	pb "tallymesh.dev/examples/go-worker/tallymesh/v1"
)

func main() {
	address := flag.String("address", "localhost:8080", "where the mesh is")
	name := flag.String("name", "go-worker", "name shown to people")
	queue := flag.String("queue", "default", "queue to take chunks from")
	slots := flag.Int("slots", runtime.NumCPU(), "chunks computed at a time")
	flag.Parse()

	redial := grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: pause, MaxDelay: pause}, MinConnectTimeout: patience}
	connection, err := grpc.NewClient(*address, grpc.WithConnectParams(redial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, leave := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	w := &worker{
		client: pb.NewDispatchServiceClient(connection),
		self: &pb.Worker{Name: *name, Uid: rand.Text(), Slots: int32(*slots),
			Kernels: []string{"count_primes"}, Queues: []string{*queue}},
		leave: leave,
		open:  map[string]bool{},
		held:  map[*pb.ChunkRange]context.CancelFunc{},
	}
	w.run(ctx, *slots)
}
