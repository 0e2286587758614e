// A server of the SPIFFE Workload API by grpc-go and go-spiffe's schema, of which SPIRE's is made, and go-spiffe's client of any other.
// go-spiffe serve unix:///path 3s spiffe://domain/path… | go-spiffe fetch unix:///path
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	must(err)
	return n
}

func newCA(td string) ca {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	u, _ := url.Parse("spiffe://" + td)
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIFFE"}},
		NotBefore: time.Now().Add(-10 * time.Second), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, URIs: []*url.URL{u}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	must(err)
	c, err := x509.ParseCertificate(der)
	must(err)
	return ca{c, key}
}

// As SPIRE's x509 templates have it.
func (c ca) svid(id string) *workload.X509SVID {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	u, _ := url.Parse(id)
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		NotBefore: time.Now().Add(-10 * time.Second), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{u}, DNSNames: []string{"node.internal"}}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, key.Public(), c.key)
	must(err)
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return &workload.X509SVID{SpiffeId: id, X509Svid: der, X509SvidKey: pk, Bundle: c.cert.Raw, Hint: "internal"}
}

type server struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	ca    ca
	ids   []string
	every time.Duration
}

func (s server) FetchX509SVID(_ *workload.X509SVIDRequest, stream workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	if v := md.Get("workload.spiffe.io"); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	for {
		r := &workload.X509SVIDResponse{FederatedBundles: map[string][]byte{"spiffe://partner.example": newCA("partner.example").cert.Raw}}
		for _, id := range s.ids {
			r.Svids = append(r.Svids, s.ca.svid(id))
		}
		if err := stream.Send(r); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-time.After(s.every):
		}
	}
}

func main() {
	path := strings.TrimPrefix(os.Args[2], "unix://")
	if os.Args[1] == "serve" {
		os.Remove(path)
		l, err := net.Listen("unix", path)
		must(err)
		g := grpc.NewServer()
		every, err := time.ParseDuration(os.Args[3])
		must(err)
		td := strings.Split(strings.TrimPrefix(os.Args[4], "spiffe://"), "/")[0]
		workload.RegisterSpiffeWorkloadAPIServer(g, server{ca: newCA(td), ids: os.Args[4:], every: every})
		fmt.Println("serving")
		must(g.Serve(l))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	x, err := workloadapi.FetchX509Context(ctx, workloadapi.WithAddr("unix://"+path))
	must(err)
	for _, s := range x.SVIDs {
		fmt.Println(s.ID, s.Certificates[0].NotAfter.UTC())
	}
	fmt.Println(x.Bundles.Len(), "bundles")
}
