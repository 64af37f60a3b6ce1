// A client of key providers: ocicrypt's own Go code, config file and all, with nothing of skopeo or containerd around it.
//
//	client wrap PROVIDER [RECIPIENT…] < optsdata > annotation
//	client unwrap PROVIDER [HINT…] < annotation > optsdata
//
// Without a recipient or hint the provider has no value in the parameters (null), as in ocicrypt's own tests.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containers/ocicrypt/config"
	keyproviderconfig "github.com/containers/ocicrypt/config/keyprovider-config"
	"github.com/containers/ocicrypt/keywrap/keyprovider"
)

func run(args []string) ([]byte, error) {
	if len(args) < 2 {
		return nil, errors.New("usage: client wrap PROVIDER [RECIPIENT…] | client unwrap PROVIDER [HINT…]")
	}
	operation, provider := args[0], args[1]
	var values [][]byte
	for _, value := range args[2:] {
		values = append(values, []byte(value))
	}
	parameters := map[string][][]byte{provider: values}
	ic, err := keyproviderconfig.GetConfiguration()
	if err != nil {
		return nil, err
	}
	if ic == nil {
		return nil, errors.New("no provider config in $" + keyproviderconfig.ENVVARNAME)
	}
	attrs, ok := ic.KeyProviderConfig[provider]
	if !ok {
		return nil, errors.New("the provider config has no " + provider)
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	wrapper := keyprovider.NewKeyWrapper(provider, attrs)
	if operation == "unwrap" {
		return wrapper.UnwrapKey(&config.DecryptConfig{Parameters: parameters}, input)
	}
	return wrapper.WrapKeys(&config.EncryptConfig{Parameters: parameters}, input)
}

func main() {
	output, err := run(os.Args[1:])
	if err == nil && len(output) == 0 {
		err = errors.New("the provider answered nothing") // which ocicrypt takes for success
	}
	if err == nil {
		_, err = os.Stdout.Write(output)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
