// The published Go client against a running server, over gRPC and over HTTP: FRAMESD_GRPC and FRAMESD_HTTP say where.
package interop

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/v3io/frames"
	"github.com/v3io/frames/grpc"
	"github.com/v3io/frames/http"
	"github.com/v3io/frames/pb"
)

const (
	container = "users"
	waitMax   = 30 * time.Second
)

// Each test runs with both clients, on tables of its own.
func withClients(t *testing.T, test func(t *testing.T, client frames.Client, suffix string)) {
	log, err := frames.NewLogger("error")
	must(t, err)
	session := &frames.Session{Container: container}
	grpcClient, err := grpc.NewClient(address(t, "FRAMESD_GRPC"), session, log)
	must(t, err)
	httpClient, err := http.NewClient("http://"+address(t, "FRAMESD_HTTP"), session, log)
	must(t, err)
	t.Run("gRPC", func(t *testing.T) { test(t, grpcClient, "grpc") })
	t.Run("HTTP", func(t *testing.T) { test(t, httpClient, "http") })
}

func address(t *testing.T, variable string) string {
	text := os.Getenv(variable)
	if text == "" {
		t.Fatalf("%s must say where the server is", variable)
	}
	if _, after, found := strings.Cut(text, "://"); found {
		return after
	}
	return text
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func column(t *testing.T, name string, values interface{}) frames.Column {
	t.Helper()
	made, err := frames.NewSliceColumn(name, values)
	must(t, err)
	return made
}

func frame(t *testing.T, columns []frames.Column, index frames.Column, labels map[string]interface{}) frames.Frame {
	t.Helper()
	made, err := frames.NewFrame(columns, []frames.Column{index}, labels)
	must(t, err)
	return made
}

func write(t *testing.T, client frames.Client, request *frames.WriteRequest, written ...frames.Frame) error {
	t.Helper()
	appender, err := client.Write(request)
	must(t, err)
	for _, one := range written {
		if err := appender.Add(one); err != nil {
			return err
		}
	}
	return appender.WaitForComplete(waitMax)
}

func read(t *testing.T, client frames.Client, request *pb.ReadRequest) []frames.Frame {
	t.Helper()
	rows, err := client.Read(request)
	must(t, err)
	var found []frames.Frame
	for rows.Next() {
		found = append(found, rows.At())
	}
	must(t, rows.Err())
	return found
}

// Rows as maps, of all frames.
func rowsOf(found []frames.Frame) []map[string]interface{} {
	var rows []map[string]interface{}
	for _, one := range found {
		for iter := one.IterRows(true); iter.Next(); {
			rows = append(rows, iter.Row())
		}
	}
	return rows
}

func TestTimeSeriesAreWrittenReadAndAggregated(t *testing.T) {
	withClients(t, func(t *testing.T, client frames.Client, suffix string) {
		table := "go/tsdb-" + suffix
		must(t, client.Create(&pb.CreateRequest{Backend: "tsdb", Table: table, Rate: "1/s"}))
		const count = 6000
		start := time.Date(2024, 2, 28, 23, 30, 0, 0, time.UTC)
		times := make([]time.Time, count)
		floats := make([]float64, count)
		ints := make([]int64, count)
		for i := range times {
			times[i] = start.Add(time.Duration(i) * time.Second)
			floats[i] = float64(i) / 8
			ints[i] = math.MaxInt64 - int64(i)
		}
		written := frame(t,
			[]frames.Column{column(t, "cpu", floats), column(t, "large", ints)},
			column(t, "time", times), map[string]interface{}{"host": "a", "rack": 7})
		must(t, write(t, client, &frames.WriteRequest{Backend: "tsdb", Table: table}, written))

		request := &pb.ReadRequest{Backend: "tsdb", Table: table, Start: "0", End: "now"}
		row := 0
		for _, found := range read(t, client, request) {
			if host := found.Labels()["host"]; host != "a" {
				t.Fatalf("label host is %v", host)
			}
			large, err := found.Column("large")
			must(t, err)
			cpu, err := found.Column("cpu")
			must(t, err)
			for i := 0; i < found.Len(); i++ {
				at, err := found.Indices()[0].TimeAt(i)
				must(t, err)
				whole, err := large.IntAt(i)
				must(t, err)
				number, err := cpu.FloatAt(i)
				must(t, err)
				if !at.Equal(times[row]) || whole != ints[row] || number != floats[row] {
					t.Fatalf("row %d: %v %d %v", row, at, whole, number)
				}
				row++
			}
		}
		if row != count {
			t.Fatalf("%d rows instead of %d", row, count)
		}

		sums := map[int64]float64{}
		for i, value := range floats {
			sums[times[i].Truncate(time.Hour).Unix()] += value
		}
		aggregated := rowsOf(read(t, client, &pb.ReadRequest{
			Backend: "tsdb", Table: table, Start: "0", End: "now", Columns: []string{"cpu"}, Aggregators: "sum,max", Step: "1h",
		}))
		if len(aggregated) != len(sums) {
			t.Fatalf("%d hours instead of %d", len(aggregated), len(sums))
		}
		for _, hour := range aggregated {
			at := hour["time"].(time.Time).Unix()
			if hour["sum(cpu)"].(float64) != sums[at] {
				t.Fatalf("sum of %d is %v instead of %v", at, hour["sum(cpu)"], sums[at])
			}
		}
		must(t, client.Delete(&pb.DeleteRequest{Backend: "tsdb", Table: table}))
		if _, err := client.Exec(&pb.ExecRequest{Backend: "tsdb", Table: table, Command: "stats"}); err == nil {
			t.Fatal("a deleted table has no statistics")
		}
	})
}

func TestItemsAreWrittenUpdatedFilteredAndDeleted(t *testing.T) {
	withClients(t, func(t *testing.T, client frames.Client, suffix string) {
		table := "go/kv-" + suffix
		names := []string{"mike", "joe", "élan", "日本"}
		ages := []int64{31, -4, 1<<53 + 1, math.MinInt64}
		active := []bool{true, false, true, true}
		written := frame(t,
			[]frames.Column{column(t, "age", ages), column(t, "active", active)}, column(t, "name", names), nil)
		request := &frames.WriteRequest{Backend: "kv", Table: table, SaveMode: frames.CreateNewItemsOnly}
		must(t, write(t, client, request, written))

		find := func(filter string) map[string]map[string]interface{} {
			items := map[string]map[string]interface{}{}
			for _, row := range rowsOf(read(t, client, &pb.ReadRequest{Backend: "kv", Table: table, Filter: filter})) {
				items[row["name"].(string)] = row
			}
			return items
		}
		all := find("")
		if len(all) != len(names) {
			t.Fatalf("items: %v", all)
		}
		for i, name := range names {
			if all[name]["age"] != ages[i] || all[name]["active"] != active[i] {
				t.Fatalf("item %s is %v", name, all[name])
			}
		}
		_, err := client.Exec(&pb.ExecRequest{
			Backend: "kv", Table: table, Command: "update",
			Args: map[string]*pb.Value{
				"key":        {Value: &pb.Value_Sval{Sval: "mike"}},
				"expression": {Value: &pb.Value_Sval{Sval: "age = age + 1"}},
				"condition":  {Value: &pb.Value_Sval{Sval: "age > 30"}},
			},
		})
		must(t, err)
		old := find("age > 31")
		if len(old) != 2 || old["mike"]["age"] != int64(32) || old["élan"]["age"] != int64(1<<53+1) {
			t.Fatalf("items above 31: %v", old)
		}
		must(t, client.Delete(&pb.DeleteRequest{Backend: "kv", Table: table, Filter: "active == false"}))
		if left := find(""); len(left) != 3 || left["joe"] != nil {
			t.Fatalf("left are %v", left)
		}
		must(t, client.Delete(&pb.DeleteRequest{Backend: "kv", Table: table}))
	})
}

func TestNullCellsStayNull(t *testing.T) {
	withClients(t, func(t *testing.T, client frames.Client, suffix string) {
		table := "go/nulls-" + suffix
		written := frames.NewFrameFromProto(&pb.Frame{
			Columns: []*pb.Column{
				{Name: "n", Kind: pb.Column_SLICE, Dtype: pb.DType_INTEGER, Ints: []int64{1, 0, 3}},
				{Name: "text", Kind: pb.Column_SLICE, Dtype: pb.DType_STRING, Strings: []string{"", "", "c"}},
			},
			Indices: []*pb.Column{
				{Name: "key", Kind: pb.Column_SLICE, Dtype: pb.DType_STRING, Strings: []string{"a", "b", "c"}},
			},
			NullValues: []*pb.NullValuesMap{
				{NullColumns: map[string]bool{}},
				{NullColumns: map[string]bool{"n": true, "text": true}},
				{NullColumns: map[string]bool{}},
			},
		})
		must(t, write(t, client, &frames.WriteRequest{Backend: "kv", Table: table}, written))
		rowCount := 0
		for _, found := range read(t, client, &pb.ReadRequest{Backend: "kv", Table: table}) {
			for row, nulls := range found.NullValuesMap() {
				key, err := found.Indices()[0].StringAt(row)
				must(t, err)
				for _, name := range []string{"n", "text"} {
					if nulls.NullColumns[name] != (key == "b") {
						t.Fatalf("%s of %s is null: %v", name, key, nulls.NullColumns[name])
					}
				}
				rowCount++
			}
		}
		if rowCount != 3 {
			t.Fatalf("%d items", rowCount)
		}
	})
}

func TestRecordsOfAStreamAreReadInOrder(t *testing.T) {
	withClients(t, func(t *testing.T, client frames.Client, suffix string) {
		table := "go/stream-" + suffix
		must(t, client.Create(&pb.CreateRequest{Backend: "stream", Table: table, Shards: 1, RetentionHours: 24}))
		const count = 100
		values := make([]int64, count)
		texts := make([]string, count)
		for i := range values {
			values[i] = int64(i)
			texts[i] = fmt.Sprintf("record %d", i)
		}
		written := frame(t, []frames.Column{column(t, "text", texts)}, column(t, "n", values), nil)
		must(t, write(t, client, &frames.WriteRequest{Backend: "stream", Table: table}, written))
		rows := rowsOf(read(t, client, &pb.ReadRequest{Backend: "stream", Table: table, Seek: "earliest", ShardId: "0"}))
		if len(rows) != count {
			t.Fatalf("%d records instead of %d", len(rows), count)
		}
		for i, row := range rows {
			if row["text"] != texts[i] {
				t.Fatalf("record %d is %v", i, row)
			}
		}
		must(t, client.Delete(&pb.DeleteRequest{Backend: "stream", Table: table}))
	})
}

func TestErrorsSayWhatWasWrong(t *testing.T) {
	withClients(t, func(t *testing.T, client frames.Client, suffix string) {
		expect := func(err error, part string) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Fatalf("%v does not say %q", err, part)
			}
		}
		failing := func(request *pb.ReadRequest) error {
			rows, err := client.Read(request)
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return rows.Err()
		}
		expect(failing(&pb.ReadRequest{Backend: "tsdb", Table: "go/none-" + suffix, Start: "0", End: "now"}), "go/none-"+suffix)
		expect(failing(&pb.ReadRequest{Backend: "nothing", Table: "t"}), "nothing")
		table := "go/errors-" + suffix
		good := frame(t, []frames.Column{column(t, "v", []int64{1})}, column(t, "key", []string{"a"}), nil)
		must(t, write(t, client, &frames.WriteRequest{Backend: "kv", Table: table}, good))
		expect(failing(&pb.ReadRequest{Backend: "kv", Table: table, Filter: "v == == 1"}), "position 6")
		empty := frame(t, []frames.Column{column(t, "v", []int64{1})}, column(t, "key", []string{""}), nil)
		expect(write(t, client, &frames.WriteRequest{Backend: "kv", Table: "go/empty-" + suffix}, empty), `key "key" should not be empty`)
	})
}
