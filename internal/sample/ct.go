package sample

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/gantry-imaging/gantry/internal/dicom"
)

// The volume, in millimetres, and how it is stored.
const (
	ctField     = 240.0
	ctThickness = 5.0
	ctIntercept = -1024
	ctNoise     = 4.5 // Hounsfield units at 256 x 256
)

// Densities that density treats apart, in Hounsfield units.
const (
	air         = -1000
	headrest    = -250
	whiteMatter = 28
	greyMatter  = 38
)

// organ is an ellipsoid of one density in Hounsfield units. x runs to the patient's left, y to
// the back, z to the head.
type organ struct {
	x, y, z float64 // centre
	a, b, c float64 // half axes
	angle   float64 // of a, about z
	hu      float64
}

// head is a phantom after Shepp and Logan (1974) in three dimensions, with densities of tissue and
// a little more inside: each organ replaces what it overlaps of those before it.
func head() []organ {
	return []organ{
		{0, 0, 0, 114, 117, 400, 0, headrest}, // seen below the head only
		{0, 0, 0, 110, 112, 400, 0, air},
		{0, 0, 0, 79, 103, 112, 0, -70}, // fat under the skin
		{0, 0, 0, 76.5, 100, 109, 0, 45},
		{0, 0, 0, 73, 96.5, 105, 0, 1250}, // outer table, marrow, inner table
		{0, 0, 0, 70.6, 94, 102.5, 0, 620},
		{0, 0, 0, 68, 91, 100, 0, 1150},
		{0, 0, 0, 65.8, 88.8, 98, 0, 9}, // fluid
		{0, 0, 0, 64, 87, 96, 0, greyMatter},
		{25, -8, 10, 27, 62, 50, 0.06, whiteMatter},
		{-25, -8, 10, 27, 62, 50, -0.06, whiteMatter},
		{0, 0, 30, 0.9, 87, 78, 0, 52}, // falx
		{0, -4, 4, 15, 26, 14, 0, 30},  // corpus callosum and what is below it
		{17, 6, -4, 10, 17, 14, 0.25, 40},
		{-17, 6, -4, 10, 17, 14, -0.25, 40}, // thalamus and basal ganglia
		{10, -24, 8, 5, 19, 13, 0.35, 7},
		{-10, -24, 8, 5, 19, 13, -0.35, 7}, // front horns
		{18, 31, 6, 5.5, 20, 12, -0.4, 7},
		{-18, 31, 6, 5.5, 20, 12, 0.4, 7}, // back horns
		{0, 4, -6, 2.2, 15, 11, 0, 8},     // third ventricle
		{0, 25, 0, 2.6, 2.6, 3, 0, 170},   // calcified pineal gland
		{40, 16, 10, 16, 20, 16, 0.3, 21}, // oedema around
		{41, 15, 9, 10, 13, 11, 0.4, 68},  // a haemorrhage
		{-44, -30, 14, 5, 5, 6, 0, 110},   // a meningioma
	}
}

// CT is a study of one series: slices axial DICOM files of a head of size x size pixels, 5 mm
// thick, the lowest first, 16-bit with Hounsfield units as Value = sample - 1024 and a window of
// 40/400. The UIDs depend on slices and size alone (PS3.5 annex B.2). The error is that of
// dicom.WriteImage, which refuses sizes of 0.
func CT(slices, size int) ([][]byte, error) {
	name := fmt.Sprintf("ct %d %d", slices, size)
	spacing := ctField / float64(size)
	corner := -ctField/2 + spacing/2
	files := make([][]byte, slices)
	for i := range files {
		z := (float64(i) - float64(slices-1)/2) * ctThickness
		var b bytes.Buffer
		err := dicom.WriteImage(&b, dicom.Image{
			SOPClass:    dicom.ClassCT,
			SOPInstance: uid(fmt.Sprintf("%s slice %d", name, i+1)), StudyInstance: uid(name + " study"),
			SeriesInstance: uid(name + " series"), FrameOfReference: uid(name + " frame"),
			PatientName: "Phantom^Head", PatientID: "GANTRY-PHANTOM",
			StudyDescription: "Computed phantom", SeriesDescription: "Head 5 mm", BodyPart: "HEAD",
			StudyDate: "20260101", StudyTime: "120000", SeriesNumber: 1, InstanceNumber: i + 1,
			Rows: size, Columns: size, Samples: ctSlice(size, z, uint64(i)),
			RescaleSlope: 1, RescaleIntercept: ctIntercept, WindowCenter: 40, WindowWidth: 400,
			Spacing: [2]float64{spacing, spacing}, SliceThickness: ctThickness,
			Position: [3]float64{corner, corner, z},
		})
		if err != nil {
			return nil, fmt.Errorf("slice %d: %w", i+1, err)
		}
		files[i] = b.Bytes()
	}
	return files, nil
}

// ctSlice is one plane, each sample the mean of four points, with noise.
func ctSlice(size int, z float64, number uint64) []uint16 {
	cut := section(z)
	spacing := ctField / float64(size)
	noise := ctNoise * float64(size) / 256
	out := make([]uint16, size*size)
	for i := range out {
		x, y := float64(i%size)*spacing-ctField/2, float64(i/size)*spacing-ctField/2
		sum := 0.0
		for _, d := range [...][2]float64{{0.25, 0.25}, {0.75, 0.25}, {0.25, 0.75}, {0.75, 0.75}} {
			sum += density(cut, x+d[0]*spacing, y+d[1]*spacing, z)
		}
		hu := sum/4 + noise*gauss(number<<32|uint64(i))
		out[i] = uint16(min(max(math.Round(hu)-ctIntercept, 0), 4095))
	}
	return out
}

// outline is where a plane cuts an organ: the ellipse in which u² + v² is below room.
type outline struct {
	organ
	sin, cos float64
	room     float64
}

// section is what of the head the plane at z cuts, the outermost last.
func section(z float64) []outline {
	var out []outline
	for _, o := range head() {
		dz := (z - o.z) / o.c
		if room := 1 - dz*dz; room > 0 {
			sin, cos := math.Sincos(o.angle)
			out = append(out, outline{o, sin, cos, room})
		}
	}
	slices.Reverse(out)
	return out
}

// density is that of the innermost organ that holds the point; air outside of all.
func density(cut []outline, x, y, z float64) float64 {
	for i := range cut {
		o := &cut[i]
		dx, dy := x-o.x, y-o.y
		u, v := (dx*o.cos+dy*o.sin)/o.a, (dy*o.cos-dx*o.sin)/o.b
		if u*u+v*v >= o.room || o.hu == headrest && y < 70 {
			continue
		}
		if o.hu == greyMatter || o.hu == whiteMatter { // the brain is not quite even
			return o.hu + 2.5*cloud(x/6+z, y/6, 31) + 2*cloud(x/2.5, y/2.5+z, 32)
		}
		return o.hu
	}
	return air
}

// uid is "2.25." and the decimal form of a UUID of version 8 made of the name (PS3.5 annex B.2,
// RFC 9562 section 5.8).
func uid(name string) string {
	h := sha256.Sum256([]byte("gantry sample\x00" + name))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return "2.25." + new(big.Int).SetBytes(h[:16]).String()
}
