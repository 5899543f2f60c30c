package docstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML parses every document of a file.
func YAML(text string) error {
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// JSON parses a value.
func JSON(text string) error {
	var v any
	return json.Unmarshal([]byte(text), &v)
}

// Go parses a file, declarations, or statements.
func Go(text string) error {
	var first error
	for _, wrap := range []string{"%s", "package p\n%s", "package p\nfunc _() {\n%s\n}"} {
		_, err := parser.ParseFile(token.NewFileSet(), "block.go", fmt.Sprintf(wrap, text), 0)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// instructions of a container file (docs.docker.com/reference/dockerfile).
var instructions = []string{
	"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
	"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}

var (
	instruction = regexp.MustCompile(`^\s*([A-Za-z]+)\s+(.*)$`)
	heredoc     = regexp.MustCompile(`<<-?["']?([A-Za-z]+)["']?`)
	runFlag     = regexp.MustCompile(`^(?:--[a-z]+=\S+\s+)+`)
)

// Dockerfile checks a container file.
func (r *Repository) Dockerfile(text, dir string) []Problem {
	var out problems
	var entry []word // of ENTRYPOINT, before those of CMD
	lines := strings.Split(text, "\n")
	from := false
	for i := 0; i < len(lines); i++ {
		at, line := i, lines[i]
		if t := strings.TrimSpace(line); t == "" || strings.HasPrefix(t, "#") {
			continue
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			if !strings.HasPrefix(strings.TrimSpace(lines[i]), "#") { // comments may stand between
				line = strings.TrimSuffix(line, `\`) + " " + lines[i]
			} else {
				line = strings.TrimSuffix(line, `\`) + `\`
			}
		}
		m := instruction.FindStringSubmatch(line)
		if m == nil || !slices.Contains(instructions, strings.ToUpper(m[1])) {
			out.add(at, "not an instruction of a container file: %s", line)
			continue
		}
		name, rest := strings.ToUpper(m[1]), m[2]
		if !from && name != "FROM" && name != "ARG" {
			out.add(at, "%s before FROM", name)
		}
		switch name {
		case "FROM":
			from, entry = true, nil
		case "RUN":
			rest = runFlag.ReplaceAllString(rest, "")
			if h := heredoc.FindStringSubmatch(rest); h != nil {
				rest = ""
				for i++; i < len(lines) && strings.TrimSpace(lines[i]) != h[1]; i++ {
					rest += lines[i] + "\n"
				}
			}
			for _, p := range r.Shell(rest, dir) {
				out.add(at+p.Line, "%s", p.Text)
			}
		case "ENTRYPOINT", "CMD":
			var args []string
			if err := json.Unmarshal([]byte(rest), &args); err != nil {
				if strings.HasPrefix(rest, "[") {
					out.add(at, "%s is no list of JSON strings: %v", name, err)
					continue
				}
				args = []string{"sh", "-c", rest}
				for _, p := range r.Shell(rest, dir) {
					out.add(at, "%s", p.Text)
				}
			}
			words := entry
			if name == "ENTRYPOINT" {
				words = nil
			}
			for _, a := range args {
				words = append(words, word{a, true})
			}
			if name == "ENTRYPOINT" {
				entry = append(slices.Clone(words), word{"…", false}) // what is behind comes later
				entry = entry[:len(entry)-1]
				continue
			}
			if len(words) > 0 {
				r.call(words, dir, at, &out)
			}
		}
	}
	if !from {
		out.add(0, "no FROM")
	}
	return out
}

// unitKeys are what units in the documentation may use (systemd.unit(5),
// systemd.service(5), systemd.exec(5), systemd.resource-control(5), systemd.timer(5)).
var unitKeys = map[string][]string{
	"Unit": {"Description", "Documentation", "After", "Before", "Requires", "Wants", "BindsTo", "PartOf", "Conflicts", "ConditionPathExists",
		"AssertPathExists", "StartLimitIntervalSec", "StartLimitBurst", "OnFailure", "RequiresMountsFor"},
	"Service": {"Type", "ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecReload", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec",
		"RemainAfterExit", "User", "Group", "DynamicUser", "SupplementaryGroups", "WorkingDirectory", "StateDirectory", "CacheDirectory", "RuntimeDirectory",
		"LogsDirectory", "Environment", "EnvironmentFile", "PassEnvironment", "StandardInput", "StandardOutput", "StandardError", "SyslogIdentifier",
		"Nice", "CPUSchedulingPolicy", "CPUSchedulingPriority", "CPUAffinity", "CPUQuota", "CPUWeight", "AllowedCPUs", "IOSchedulingClass", "IOWeight",
		"MemoryMax", "MemoryHigh", "MemorySwapMax", "MemoryLow", "OOMScoreAdjust", "OOMPolicy", "TasksMax", "RuntimeMaxSec", "LimitMEMLOCK", "LimitNOFILE", "LimitRTPRIO",
		"NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateNetwork", "PrivateUsers", "ProtectKernelTunables",
		"ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "ProtectProc", "ProcSubset",
		"ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths", "DeviceAllow", "DevicePolicy", "RestrictAddressFamilies", "RestrictNamespaces",
		"RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "SystemCallFilter", "SystemCallArchitectures",
		"CapabilityBoundingSet", "AmbientCapabilities", "IPAddressDeny", "IPAddressAllow", "UMask", "KillSignal", "KillMode", "SuccessExitStatus", "WatchdogSec"},
	"Install": {"WantedBy", "RequiredBy", "Alias", "Also", "DefaultInstance"},
	"Timer":   {"OnCalendar", "OnBootSec", "OnUnitActiveSec", "Persistent", "RandomizedDelaySec", "Unit", "AccuracySec"},
	"Path":    {"PathExists", "PathChanged", "PathModified", "DirectoryNotEmpty", "PathExistsGlob", "MakeDirectory", "Unit"},
	"Socket":  {"ListenStream", "Accept", "MaxConnections", "SocketMode", "SocketUser", "SocketGroup"},
}

// Unit checks a systemd unit, or several with a comment or an empty line between.
func (r *Repository) Unit(text, dir string) []Problem {
	var out problems
	section := ""
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		at, line := i, strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i])
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			if unitKeys[section] == nil {
				out.add(at, "unknown section %s", line)
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			out.add(at, "not KEY=VALUE: %s", line)
		case unitKeys[section] != nil && !slices.Contains(unitKeys[section], key):
			out.add(at, "[%s] has no key %s that is known here", section, key)
		case strings.HasPrefix(key, "Exec"):
			for _, p := range r.Shell(strings.TrimLeft(value, "-@:+!"), dir) {
				out.add(at, "%s", p.Text)
			}
		}
	}
	return out
}
