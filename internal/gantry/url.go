package gantry

import (
	"net/url"
	"strconv"
	"strings"
)

// WebTarget is the origin of an http or https URL, in lower case and without the port that its scheme has anyway (RFC 9110
// section 4.2); zero if it is no URL.
func WebTarget(s string) Target {
	u, err := url.Parse(s)
	if err != nil {
		return Target{}
	}
	t := Target{Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Hostname()), Port: u.Port()}
	if t.Scheme == "http" && t.Port == "80" || t.Scheme == "https" && t.Port == "443" {
		t.Port = ""
	}
	return t
}

// CheckWebURL says what is wrong with the URL of a service, nothing if nothing is. It does not quote it: it may hold a password.
func CheckWebURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "is no URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "is not an absolute http or https URL"
	case u.Hostname() == "" || u.Opaque != "":
		return "names no host"
	case u.User != nil:
		return "holds a user or password; name a credential with auth instead"
	case strings.Contains(s, "#"):
		return "holds a fragment"
	}
	if _, port, ok := strings.Cut(strings.TrimPrefix(u.Host, "["+u.Hostname()+"]"), ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has no port from 1 to 65535"
		}
	}
	return ""
}
