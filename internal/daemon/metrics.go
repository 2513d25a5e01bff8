package daemon

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/opencoded/opencoded/internal/host"
	"github.com/opencoded/opencoded/internal/netpolicy"
)

// MetricsSocket is where metrics are served, to root.
const MetricsSocket = host.RunDir + "/metrics.sock"

// metrics are what the daemon counts, and what it asks for when somebody looks. Their number is bounded by the number
// of instances in the inventory: no label holds anything that an agent could choose.
type metrics struct {
	d          *daemon
	registry   *prometheus.Registry
	applies    *prometheus.CounterVec
	repairs    *prometheus.CounterVec
	reconciles prometheus.Histogram

	mu       sync.Mutex
	address  string // of the listener on the network
	listener net.Listener
}

func newMetrics(d *daemon) *metrics {
	m := &metrics{d: d, registry: prometheus.NewRegistry(),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "opencoded_applies_total",
			Help: "Plans that were carried out, by whether all of it came through."}, []string{"result"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "opencoded_drift_repairs_total",
			Help: "What others had changed and was put back, by kind of object."}, []string{"kind"}),
		reconciles: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "opencoded_reconcile_duration_seconds",
			Help:    "Time from a look at the host until it was as the inventory says.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)}),
	}
	m.registry.MustRegister(m.applies, m.repairs, m.reconciles, instances{d},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) repaired(kind string) { m.repairs.WithLabelValues(kind).Inc() }

func (m *metrics) reconciled(took time.Duration) { m.reconciles.Observe(took.Seconds()) }

func (m *metrics) applied(wholly bool) {
	result := "success"
	if !wholly {
		result = "failure"
	}
	m.applies.WithLabelValues(result).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// listen serves metrics on an address of the network, as the inventory in force says; "" serves them nowhere there.
func (m *metrics) listen(ctx context.Context, address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if address == m.address {
		return
	}
	if m.listener != nil {
		m.listener.Close()
		m.listener = nil
	}
	m.address = ""
	if address == "" {
		return
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		m.d.Log.Error("metrics are not served there: free the port, or change host.metrics_listen", zap.String("address", address), zap.Error(err))
		return
	}
	m.address, m.listener = address, l
	go serveHTTP(ctx, l, m.handler())
}

// instances collects what is known of each.
type instances struct{ d *daemon }

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("opencoded_"+name, help, labels, nil)
}

var (
	descBuild      = description("build_info", "Always 1; the version of opencoded.", "version")
	descValid      = description("inventory_valid", "1 if the inventory can be used, 0 while the one before it is kept.")
	descGeneration = description("config_generation", "How many different inventories have been in force since the start.")
	descWaiting    = description("changes_waiting", "Steps that auto_apply = false leaves to opencoded apply.")
	descRules      = description("rules_loaded", "1 if the egress rules hold, 0 while they cannot be restored.")

	descUp        = description("instance_up", "1 if the server answers that it is healthy.", "instance")
	descLatency   = description("instance_health_latency_seconds", "Time that the last answer to a probe took.", "instance")
	descBusy      = description("instance_busy_sessions", "Sessions that were at work at the last probe.", "instance")
	descRestarts  = description("instance_restarts_total", "Automatic restarts: by systemd since the last start, by the daemon since its own.", "instance", "by")
	descMemory    = description("instance_memory_bytes", "Memory of the control group.", "instance")
	descCPU       = description("instance_cpu_seconds_total", "Processor time of the control group since the server started.", "instance")
	descTasks     = description("instance_tasks", "Processes and threads.", "instance")
	descPackets   = description("instance_egress_packets_total", "Packets that the egress policy blocked, or would have (mode = report).", "instance", "verdict")
	descBytes     = description("instance_egress_bytes_total", "Bytes of those packets.", "instance", "verdict")
	descInstances = []*prometheus.Desc{descBuild, descValid, descGeneration, descWaiting, descRules, descUp, descLatency, descBusy,
		descRestarts, descMemory, descCPU, descTasks, descPackets, descBytes}
)

func (instances) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descInstances {
		out <- d
	}
}

func (c instances) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	now := c.d.now()
	gauge(descBuild, 1, now.Version)
	gauge(descValid, truth(len(now.Broken) == 0))
	counter(descGeneration, float64(now.Generation))
	gauge(descWaiting, float64(now.Waiting))
	gauge(descRules, truth(now.Rules == ""))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, err := c.d.host.Counts(ctx)
	if err != nil {
		c.d.Log.Warn("blocked packets are missing from the metrics", zap.Error(err))
	}
	for name, p := range c.d.monitor.patients() {
		p.mu.Lock()
		unit, pulse, healthy, restarts := p.unit, p.pulse, p.healthy, p.restarts
		p.mu.Unlock()
		gauge(descUp, truth(healthy), name)
		gauge(descLatency, pulse.Took.Seconds(), name)
		gauge(descBusy, float64(pulse.Busy), name)
		counter(descRestarts, float64(unit.Restarts), name, "systemd")
		counter(descRestarts, float64(restarts), name, "opencoded")
		use := unit.Usage()
		gauge(descMemory, float64(use.Memory), name)
		counter(descCPU, use.CPU, name)
		gauge(descTasks, float64(use.Tasks), name)
		for verdict, n := range map[string]netpolicy.Counter{"blocked": counts[name].Blocked, "would-block": counts[name].Reported} {
			counter(descPackets, float64(n.Packets), name, verdict)
			counter(descBytes, float64(n.Bytes), name, verdict)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// listenUnix makes a socket anew, with a mode.
func listenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(host.RunDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, mode)
}
