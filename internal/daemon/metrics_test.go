package daemon

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMonitoringNamesWhatThereIs: dashboard, alerts and document ask for series that exist, and the document names all.
func TestMonitoringNamesWhatThereIs(t *testing.T) {
	served := map[string]bool{}
	descriptions := make(chan *prometheus.Desc, 100)
	m := newMetrics(&daemon{})
	for _, c := range []prometheus.Collector{instances{}, m.applies, m.repairs, m.reconciles} {
		c.Describe(descriptions)
	}
	close(descriptions)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descriptions {
		served[name.FindStringSubmatch(d.String())[1]] = true
	}
	asked := regexp.MustCompile(`opencoded_[a-z_]+`)
	for _, path := range []string{"../../packaging/monitoring/alerts.yaml", "../../packaging/monitoring/grafana.json", "../../docs/metrics.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, series := range asked.FindAllString(string(text), -1) {
			if !served[strings.TrimSuffix(series, "_bucket")] {
				t.Errorf("%s names %s, which is not served", path, series)
			}
		}
		if strings.HasSuffix(path, ".md") {
			for series := range served {
				if !strings.Contains(string(text), "`"+series+"`") {
					t.Errorf("%s does not name %s", path, series)
				}
			}
		}
	}
}
